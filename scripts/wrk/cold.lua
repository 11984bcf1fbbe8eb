-- Cold refreshes: residents in their order, from the line named second after `--` (from 0), so that whoever starts
-- each run where the last one ended asks for nobody twice in a window. With several threads each walks a part of its
-- own.
--
--     wrk -t1 -c64 -d10s -s scripts/wrk/cold.lua http://127.0.0.1:8080 -- DATA/sessions.txt 0

local common = dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "common.lua")

local threads = 0

function setup(thread)
   thread:set("number", threads)
   threads = threads + 1
end

function init(args)
   local sessions = common.sessions(args)
   -- A window of 45 s at 50,000/s is 2,250,000 residents; parts an eighth of the file apart keep eight threads apart.
   local first = (tonumber(args[2]) or 0) + number * math.floor(sessions.lines / 8)
   request = common.walk(sessions, first)
end

function done(summary, latency, all)
   common.report(summary, latency)
end

-- Refreshes of random residents, for wrk:
--
--     wrk -t2 -c64 -d10s -s scripts/wrk/refresh.lua http://127.0.0.1:8080 -- DATA/sessions.txt
--
-- A path in the address replaces the usual one, for example /person/app/refreshQRCode?qr=none. Where sessions come
-- from, and how it ends, is in common.lua.

local common = dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "common.lua")

local REQUESTS_MAX = 1000

local requests = {}
local random = math.random
local threads = 0

function setup(thread)
   threads = threads + 1
   thread:set("number", threads)
end

function init(args)
   local sessions = common.sessions(args)
   if sessions.lines <= REQUESTS_MAX then
      requests = common.refreshes(sessions, 0, sessions.lines)
      return
   end
   -- Each thread draws its own residents.
   math.randomseed(os.time() + number * 7919)
   for i = 1, REQUESTS_MAX do
      requests[i] = common.refreshes(sessions, random(0, sessions.lines - 1), 1)[1]
   end
end

function request()
   return requests[random(#requests)]
end

function done(summary, latency, all)
   common.report(summary, latency)
end

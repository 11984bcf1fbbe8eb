-- The Xi'an mix: of ten who come, one opens (the page, a session, a refresh) and nine return (a refresh), all of them
-- random residents. So of twelve requests one is a page, one a sign-in, ten are refreshes. For a server with --demo,
-- which signs residents in by their number.
--
--     wrk -t1 -c64 -d10s -s scripts/wrk/mixed.lua http://127.0.0.1:8080 -- DATA/sessions.txt

local common = dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "common.lua")

local RESIDENTS_MAX = 20000
local RETURNS = 9

local refreshes, openings = {}, {}
local page
local step = 0
local random = math.random
local threads = 0

function setup(thread)
   threads = threads + 1
   thread:set("number", threads)
end

function init(args)
   local sessions = common.sessions(args)
   math.randomseed(os.time() + number * 7919)
   page = wrk.format("GET", "/", { ["Accept-Encoding"] = "br" })
   for i = 1, math.min(RESIDENTS_MAX, sessions.lines) do
      local line = random(0, sessions.lines - 1)
      refreshes[i] = common.refreshes(sessions, line, 1)[1]
      openings[i] = wrk.format("POST", "/person/app/session", { ["Content-Type"] = "application/json" },
         '{"demo_resident":' .. (line + 1) .. "}")
   end
end

function request()
   step = step % (RETURNS + 3) + 1
   if step == 1 then
      return page
   elseif step == 2 then
      return openings[random(#openings)]
   end
   return refreshes[random(#refreshes)]
end

function done(summary, latency, all)
   common.report(summary, latency)
end

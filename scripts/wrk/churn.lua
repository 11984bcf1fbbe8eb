-- A new TCP connection for each warm refresh.
--
--     wrk -t1 -c64 -d10s -s scripts/wrk/churn.lua http://127.0.0.1:8080 -- DATA/sessions.txt

local common = dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "common.lua")

local RESIDENTS = 1000

local requests = {}
local at = 0

function init(args)
   local sessions = common.sessions(args)
   requests = common.refreshes(sessions, 0, math.min(RESIDENTS, sessions.lines), { ["Connection"] = "close" })
end

function request()
   at = at % #requests + 1
   return requests[at]
end

function done(summary, latency, all)
   common.report(summary, latency)
end

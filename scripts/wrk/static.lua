-- The page, or what else the address names, in the encoding named first after `--` (br if none).
--
--     wrk -t1 -c64 -d10s -s scripts/wrk/static.lua http://127.0.0.1:8080/ -- gzip

local common = dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "common.lua")

local text

function init(args)
   text = wrk.format("GET", common.path("/"), { ["Accept-Encoding"] = args[1] or "br" })
end

function request()
   return text
end

function done(summary, latency, all)
   common.report(summary, latency)
end

-- What all scripts for wrk share: sessions by their offset, prebuilt requests, the walk, and the report.
--
-- A script loads it with dofile from its own folder. Sessions come from the file named first after `--` on wrk's
-- command line, else by ONECODE_SESSIONS, else from sessions.txt in this folder: one session a line, all of one
-- length, so that line N is found by its offset in a file of any size.

local common = {}

local SESSION_BYTES = 48
local LINE_BYTES = SESSION_BYTES + 1
-- Lines read at a time when sessions are walked.
local BLOCK_LINES = 4096

common.refresh = "/person/app/refreshQRCode"

local function stop(text)
   io.stderr:write("wrk script: " .. text .. "\n")
   os.exit(1)
end
common.stop = stop

-- The file of sessions, opened; and how many it has.
function common.sessions(args)
   -- args[0] is the address.
   local path = args[1] or os.getenv("ONECODE_SESSIONS") or "sessions.txt"
   local file, problem = io.open(path, "rb")
   if not file then
      stop(problem .. " (name the file after --, it is in the demo's data folder)")
   end
   local lines = math.floor(file:seek("end") / LINE_BYTES)
   if lines < 1 then
      stop(path .. " has no session")
   end
   return { file = file, path = path, lines = lines }
end

-- Session number `line`, from 0.
function common.session(sessions, line)
   sessions.file:seek("set", line * LINE_BYTES)
   local text = sessions.file:read(LINE_BYTES)
   if not text or not text:match("^[%w_-]+\n$") then
      stop(sessions.path .. ": line " .. (line + 1) .. " is not a session of " .. SESSION_BYTES .. " characters")
   end
   return text:sub(1, SESSION_BYTES)
end

-- The path in wrk's address, or another where it has none.
function common.path(otherwise)
   local path = wrk.path
   if path == nil or path == "" or path == "/" then
      return otherwise
   end
   return path
end

local function with(headers, session)
   local all = { ["Authorization"] = "Bearer " .. session }
   for name, value in pairs(headers or {}) do
      all[name] = value
   end
   return all
end

-- The refreshes of residents `first` to `first + count - 1`, made beforehand: what request() costs is time that wrk
-- does not send in.
function common.refreshes(sessions, first, count, headers)
   local requests = {}
   local path = common.path(common.refresh)
   for i = 1, count do
      local session = common.session(sessions, (first + i - 1) % sessions.lines)
      requests[i] = wrk.format("GET", path, with(headers, session))
   end
   return requests
end

-- A function that gives one refresh after another, of residents in their order from `first` on, for as many as there
-- are: too many to make beforehand, so a block of the file is read at a time and each request is put together of
-- three strings.
function common.walk(sessions, first, headers)
   local mark = string.rep("S", SESSION_BYTES)
   local whole = wrk.format("GET", common.path(common.refresh), with(headers, mark))
   local from, to = whole:find(mark, 1, true)
   local before, after = whole:sub(1, from - 1), whole:sub(to + 1)
   local line = first % sessions.lines
   local block, at = "", 1
   return function()
      if at > #block then
         sessions.file:seek("set", line * LINE_BYTES)
         block = sessions.file:read(math.min(BLOCK_LINES, sessions.lines - line) * LINE_BYTES)
         line = (line + math.floor(#block / LINE_BYTES)) % sessions.lines
         at = 1
      end
      local session = block:sub(at, at + SESSION_BYTES - 1)
      at = at + LINE_BYTES
      return before .. session .. after
   end
end

-- For done(): prints what a program reads, as one line of JSON, and what a person reads; ends wrk with 1 if a request
-- failed.
function common.report(summary, latency)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
   io.write(string.format("requests: %d, failed: %d (connect %d, read %d, write %d, timeout %d, status %d)\n",
      summary.requests, failed, errors.connect, errors.read, errors.write, errors.timeout, errors.status))
   io.write(string.format('json: {"requests": %d, "failed": %d, "duration_us": %d, "bytes": %d, "p50_us": %d, ' ..
      '"p99_us": %d}\n', summary.requests, failed, summary.duration, summary.bytes, latency:percentile(50),
      latency:percentile(99)))
   if failed > 0 or summary.requests == 0 then
      os.exit(1)
   end
end

return common

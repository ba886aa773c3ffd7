-- What wrk runs: sends a file of prepared requests in turn, counts the statuses, keeps a sample of the answers.
-- Arguments: the file of requests (separated by \1); the file for the sample; milliseconds that each connection waits
-- before a request; what to do with the next refresh token in an answer: "chain" sends it in the next request.
requests, sent, answered, statuses = {}, 0, 0, {}
local sample, pause, isChain, template
local SAMPLED = 199

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for request in file:read("*a"):gmatch("[^\1]+") do requests[#requests + 1] = request end
  file:close()
  sample = assert(io.open(args[2], "wb"))
  pause = tonumber(args[3])
  isChain = args[4] == "chain"
  if pause > 0 then delay = function() return pause end end
  if not isChain then return end
  template = requests[1]:gsub('("refresh_token":")[^"]+', "%1%%s")
  request = function()
    sent = sent + 1
    return table.remove(requests)
  end
end

function request()
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end

function response(status, _, body)
  statuses[status] = (statuses[status] or 0) + 1
  answered = answered + 1
  if answered % SAMPLED == 1 then sample:write(status, " ", body, "\1") end
  if not isChain then return end
  local token = body:match('"refresh_token":"([^"]+)"')
  if token then requests[#requests + 1] = template:format(token) end
end

local threads = {}
function setup(thread) threads[#threads + 1] = thread end

function done(summary, latency)
  local thread, counts = threads[1], {}
  for status, count in pairs(thread:get("statuses")) do counts[#counts + 1] = string.format('"%d":%d', status, count) end
  local stat = assert(io.open("/proc/self/stat")):read("*a"):match("%) (.*)")
  local fields = {}
  for field in stat:gmatch("%S+") do fields[#fields + 1] = tonumber(field) or 0 end
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"micros":%d,"sent":%d,"statuses":{%s},"socketErrors":{"connect":%d,"read":%d,"write":%d,"timeout":%d},"p50":%d,"p99":%d,"max":%d,"cpuTicks":%d}\n',
    summary.requests, summary.duration, thread:get("sent"), table.concat(counts, ","),
    errors.connect, errors.read, errors.write, errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max, fields[12] + fields[13]))
end

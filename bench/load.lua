-- What wrk sends: see bench/wrk.py. Time is the monotonic clock, so that rates need no guess about
-- when wrk began. In the last part of a run only the health route is asked: when wrk hangs up, no
-- chat is on its way, and every one that was sent has been answered. Every chat of a run has a prompt
-- of its own: a number in it is written anew for each.
local ffi = require("ffi")
ffi.cdef[[
typedef struct { long s; long ns; } bench_time;
int clock_gettime(int clock, bench_time *at);
]]
local at = ffi.new("bench_time")
local function now()
  ffi.C.clock_gettime(1, at)
  return tonumber(at.s) + tonumber(at.ns) * 1e-9
end

local threads = {}
function setup(thread)
  table.insert(threads, thread)
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local ordinary, blocked, capped, health = {}, nil, nil, nil
local warm_s, measure_s, every, number = 0, 0, 1000, ""
local began, warm_until, stop_at = nil, nil, nil
local place = 0
local asked_by_wrk_itself = true
local numbers_from = 0
sent, sent_blocked, sent_capped, measured, measured_s = 0, 0, 0, 0, 0
local warm_sent, warm_at = nil, nil

-- A request in two parts, before and behind the number in its prompt.
local function split(text)
  local first, last = string.find(text, number, 1, true)
  return {text:sub(1, first - 1), text:sub(last + 1)}
end

local function numbered(parts)
  return parts[1] .. string.format("%0" .. #number .. "d", numbers_from + sent) .. parts[2]
end

function init(args)
  local folder = args[1]
  warm_s, measure_s, every = tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  number = args[6]
  -- Another run began at another second: what it sent is not sent again.
  numbers_from = math.floor(now()) * 100000 % 10 ^ #number
  for place = 1, tonumber(args[5]) do
    ordinary[place] = split(read(folder .. "/ordinary-" .. place))
  end
  blocked, capped = split(read(folder .. "/blocked")), split(read(folder .. "/capped"))
  health = read(folder .. "/health")
end

function request()
  if asked_by_wrk_itself then
    -- With one thread the first call only lets wrk see what a request looks like; it is not sent.
    asked_by_wrk_itself = false
    return health
  end
  local t = now()
  if began == nil then
    began, warm_until, stop_at = t, t + warm_s, t + warm_s + measure_s
  end
  if t >= stop_at then
    if measured_s == 0 then
      measured, measured_s = sent - (warm_sent or 0), t - (warm_at or began)
    end
    return health
  end
  if warm_sent == nil and t >= warm_until then
    warm_sent, warm_at = sent, t
  end
  sent = sent + 1
  place = place + 1
  if place == every / 2 then
    sent_blocked = sent_blocked + 1
    return numbered(blocked)
  elseif place >= every then
    place = 0
    sent_capped = sent_capped + 1
    return numbered(capped)
  end
  return numbered(ordinary[place % #ordinary + 1])
end

function done(summary, latency, requests)
  local all = {sent = 0, sent_blocked = 0, sent_capped = 0, measured = 0}
  local seconds = 0
  for _, thread in ipairs(threads) do
    for name, value in pairs(all) do
      all[name] = value + thread:get(name)
    end
    seconds = math.max(seconds, thread:get("measured_s"))
  end
  io.write(string.format(
    'RESULT {"sent":%d,"blocked":%d,"capped":%d,"measured":%d,"measured_s":%.6f,' ..
    '"status_errors":%d,"socket_errors":%d}\n',
    all.sent, all.sent_blocked, all.sent_capped, all.measured, seconds,
    summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end

-- clock_test: stands in for `clock` in tests that hold the time: reads it from a key.
-- GIVES   server_us() -> microseconds, as the test last set them
local function server_us()
  return tonumber(call('GET', P .. 'testclock') or '0')
end

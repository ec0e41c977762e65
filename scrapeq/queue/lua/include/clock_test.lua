-- clock_test: replaces `clock` in tests that control the time: reads it from a key.
-- GIVES   server_us() -> microseconds as the test set them
local function server_us()
  return tonumber(call('GET', P .. 'testclock') or '0')
end

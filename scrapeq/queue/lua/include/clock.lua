-- clock: the time of the server.
-- GIVES   server_us() -> microseconds since 1970
local function server_us()
  local t = call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

// rate-limiter-flexible on a plain server: a fixed window that starts with the first request. Tells: x (Reset is a
// time, as in its documentation). Punishes: block (each refusal closes the limit for one window).
'use strict'

const { RateLimiterMemory } = require('rate-limiter-flexible')

module.exports = ({ limit, windowMs, tells, retryAfter, punish }) => {
  const windowS = windowMs / 1000
  const limiter = new RateLimiterMemory({ points: limit, duration: windowS, blockDuration: punish === 'block' ? windowS : 0 })
  const tell = (response, found) => {
    if (tells !== 'x') return
    response.setHeader('X-RateLimit-Limit', limit)
    response.setHeader('X-RateLimit-Remaining', found.remainingPoints)
    response.setHeader('X-RateLimit-Reset', Math.ceil((Date.now() + found.msBeforeNext) / 1000))
  }
  return async (request, response) => {
    try {
      tell(response, await limiter.consume('all'))
      response.setHeader('Content-Type', 'application/json')
      response.end(JSON.stringify({ id: Number(request.url.split('/').pop()) }))
    } catch (found) {
      tell(response, found)
      if (retryAfter) response.setHeader('Retry-After', Math.ceil(found.msBeforeNext / 1000))
      response.statusCode = 429
      response.end('Too Many Requests')
    }
  }
}

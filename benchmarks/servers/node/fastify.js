// @fastify/rate-limit: a fixed window that starts with the first request. Tells: x, draft-6.
// Punishes: ban (403 from the fourth refusal of a window on), renew (each refusal restarts the window),
// double (each refusal doubles the window).
'use strict'

const fastify = require('fastify')
const rateLimit = require('@fastify/rate-limit')

const BAN = 3

module.exports = async ({ limit, windowMs, tells, retryAfter, punish }) => {
  const prefix = tells === 'draft-6' ? '' : 'x-'
  const headers = {}
  for (const name of ['limit', 'remaining', 'reset']) headers[`${prefix}ratelimit-${name}`] = tells !== 'none'
  const app = fastify({ exposeHeadRoutes: false })
  await app.register(rateLimit, {
    max: limit,
    timeWindow: windowMs,
    enableDraftSpec: tells === 'draft-6',
    addHeadersOnExceeding: headers,
    addHeaders: { ...headers, 'retry-after': retryAfter },
    ban: punish === 'ban' ? BAN : undefined,
    continueExceeding: punish === 'renew',
    exponentialBackoff: punish === 'double'
  })
  app.get('/item/:n', async request => ({ id: Number(request.params.n) }))
  await app.ready()
  return app.routing
}

// hono-rate-limiter: a fixed window that starts with the first request. Tells: draft-6, draft-7.
'use strict'

const { getRequestListener } = require('@hono/node-server')
const { Hono } = require('hono')
const { rateLimiter } = require('hono-rate-limiter')

module.exports = ({ limit, windowMs, tells, retryAfter }) => {
  const app = new Hono()
  app.use(rateLimiter({
    windowMs,
    limit,
    standardHeaders: tells === 'none' ? false : tells,
    keyGenerator: () => 'all',
    handler: (context, next, options) => {
      const resetMs = context.get('rateLimit').resetTime - Date.now()
      if (retryAfter) context.header('Retry-After', Math.ceil(resetMs / 1000).toString())
      return context.text(options.message, options.statusCode)
    }
  }))
  app.get('/item/:n', context => context.json({ id: Number(context.req.param('n')) }))
  return getRequestListener(app.fetch)
}

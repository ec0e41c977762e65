// koa-ratelimit: a fixed window that starts with the first request. Tells: x (Reset is a time with a fraction). Its
// Retry-After is rounded down: 0 in the last second.
'use strict'

const Koa = require('koa')
const ratelimit = require('koa-ratelimit')

module.exports = ({ limit, windowMs, tells, retryAfter }) => {
  const app = new Koa()
  const limiter = ratelimit({ driver: 'memory', db: new Map(), duration: windowMs, max: limit, disableHeader: tells === 'none' })
  app.use(async (context, next) => {
    await limiter(context, next)
    if (!retryAfter) context.remove('Retry-After')
  })
  app.use(context => { context.body = { id: Number(context.path.split('/').pop()) } })
  return app.callback()
}

// express-rate-limit: a fixed window that starts with the first request. Tells: legacy, draft-6, draft-7, draft-8.
'use strict'

const express = require('express')
const { rateLimit } = require('express-rate-limit')

module.exports = ({ limit, windowMs, tells, retryAfter }) => {
  const app = express()
  app.use(rateLimit({
    windowMs,
    limit,
    legacyHeaders: tells === 'legacy',
    standardHeaders: tells.startsWith('draft') ? tells : false,
    handler: (request, response, next, options) => {
      if (retryAfter) {
        response.set('Retry-After', Math.ceil((request.rateLimit.resetTime - Date.now()) / 1000).toString())
      }
      response.status(options.statusCode).send(options.message)
    }
  }))
  app.get('/item/:n', (request, response) => response.json({ id: Number(request.params.n) }))
  return app
}

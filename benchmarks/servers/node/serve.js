// `node serve.js FRAMEWORK OPTIONS`: run one rate-limited server; its first line on stdout is JSON with the port.
//
// This wrapper logs, outside the framework, when a request arrived, when it was decided, and its status.
// A line of JSON on stdin ({"limit": 150}) replaces the limit by an unused one.
// It ends when stdin is closed.
'use strict'

const fs = require('node:fs')
const http = require('node:http')
const path = require('node:path')
const readline = require('node:readline')
const { parseArgs } = require('node:util')

const REFUSALS = [429, 503, 403]

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    limit: { type: 'string', default: '30' }, // requests per window
    window: { type: 'string', default: '3' }, // seconds
    tells: { type: 'string', default: 'none' }, // header fields of every response; see the framework's file
    'retry-after': { type: 'boolean', default: false }, // send Retry-After with a 429
    punish: { type: 'string', default: '' }, // what refused requests cause; see the framework's file
    'way-ms': { type: 'string', default: '0' }, // longest travel time in each direction
    log: { type: 'string' } // log file: one line of JSON per request
  }
})

const make = require(path.join(__dirname, `${positionals[0]}.js`))
const wayMs = Number(values['way-ms'])
const log = fs.createWriteStream(values.log, { flags: 'a' })
const nowS = () => Number(process.hrtime.bigint()) / 1e9 // Python's monotonic clock

function handler (limit) {
  return make({
    limit,
    windowMs: Number(values.window) * 1000,
    tells: values.tells,
    retryAfter: values['retry-after'],
    punish: values.punish
  })
}

function travel (callback) {
  if (wayMs) setTimeout(callback, Math.random() * wayMs)
  else callback()
}

async function main () {
  let limit = Number(values.limit)
  let handle = await handler(limit)

  const server = http.createServer((request, response) => {
    const record = { n: Number(request.url.split('/').pop()), arrived_s: nowS(), limit }
    let headers = {} // header fields passed with the status are missing in response.getHeader()
    const { writeHead, end } = response
    response.writeHead = (status, ...rest) => {
      headers = rest.find(one => one && typeof one === 'object' && !Array.isArray(one)) ?? headers
      return writeHead.call(response, status, ...rest)
    }
    response.end = (...rest) => {
      const refused = REFUSALS.includes(response.statusCode)
      record.decided_s = record.left_s = nowS()
      record.status = response.statusCode
      record.accepted = !refused
      record.wait_s = refused ? Number(response.getHeader('retry-after') ?? headers['retry-after'] ?? 0) : 0
      travel(() => end.apply(response, rest))
      return response
    }
    response.on('close', () => {
      if (record.status) log.write(JSON.stringify({ ...record, responded_s: nowS() }) + '\n')
    })
    travel(() => handle(request, response))
  })

  readline.createInterface({ input: process.stdin })
    .on('line', async line => {
      const newLimit = JSON.parse(line).limit
      handle = await handler(newLimit)
      limit = newLimit
    })
    .on('close', () => {
      server.closeAllConnections()
      log.end(() => process.exit(0))
    })
  server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })))
}

main()

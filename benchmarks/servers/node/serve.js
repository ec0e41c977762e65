// `node serve.js FRAMEWORK OPTIONS`: one rate-limited server; the first line on stdout is JSON with its port.
//
// What is counted is counted here, around the framework: when a request came, when it was decided, its status.
// A line of JSON on stdin ({"limit": 150}) puts another limit in the place of the first, which is forgotten.
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
    limit: { type: 'string', default: '30' }, // requests a window
    window: { type: 'string', default: '3' }, // seconds
    tells: { type: 'string', default: 'none' }, // the fields of every answer; what there is, the framework's file says
    'retry-after': { type: 'boolean', default: false }, // a 429 says when to come back
    punish: { type: 'string', default: '' }, // what refused requests lead to; the framework's file says what there is
    'way-ms': { type: 'string', default: '0' }, // longest way to the limiter, and back from it
    log: { type: 'string' } // a line of JSON for each request
  }
})

const make = require(path.join(__dirname, `${positionals[0]}.js`))
const wayMs = Number(values['way-ms'])
const log = fs.createWriteStream(values.log, { flags: 'a' })
const nowS = () => Number(process.hrtime.bigint()) / 1e9 // the clock that Python calls monotonic

function handler (limit) {
  return make({
    limit,
    windowMs: Number(values.window) * 1000,
    tells: values.tells,
    retryAfter: values['retry-after'],
    punish: values.punish
  })
}

function travel (arrive) {
  if (wayMs) setTimeout(arrive, Math.random() * wayMs)
  else arrive()
}

async function main () {
  let limit = Number(values.limit)
  let handle = await handler(limit)

  const server = http.createServer((request, response) => {
    const seen = { n: Number(request.url.split('/').pop()), arrived_s: nowS(), limit }
    let told = {} // fields that are given with the status are not among those of the response
    const { writeHead, end } = response
    response.writeHead = (status, ...rest) => {
      told = rest.find(one => one && typeof one === 'object' && !Array.isArray(one)) ?? told
      return writeHead.call(response, status, ...rest)
    }
    response.end = (...rest) => {
      const refused = REFUSALS.includes(response.statusCode)
      seen.decided_s = seen.left_s = nowS()
      seen.status = response.statusCode
      seen.accepted = !refused
      seen.wait_s = refused ? Number(response.getHeader('retry-after') ?? told['retry-after'] ?? 0) : 0
      travel(() => end.apply(response, rest))
      return response
    }
    response.on('close', () => {
      if (seen.status) log.write(JSON.stringify({ ...seen, answered_s: nowS() }) + '\n')
    })
    travel(() => handle(request, response))
  })

  readline.createInterface({ input: process.stdin })
    .on('line', async line => {
      const wanted = JSON.parse(line).limit
      handle = await handler(wanted)
      limit = wanted
    })
    .on('close', () => {
      server.closeAllConnections()
      log.end(() => process.exit(0))
    })
  server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })))
}

main()

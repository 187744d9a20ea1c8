/**
 * The start of a program or Worker that scripts/bundle.mjs has bundled; copied to dist/run/NAME.cjs. Beside it lie
 * NAME.bundle.js, one function; NAME.bundle.cache, what V8 made of it at the build, so that nothing is compiled at a
 * start; and NAME.bundle.js.map. Another V8 than that of the build refuses the cache and compiles: slower, not wrong.
 */
'use strict'
const { readFileSync } = require('node:fs')
const { Script } = require('node:vm')

const bundle = __filename.replace(/\.cjs$/, '.bundle')
const filename = `${bundle}.js`

/** Characters of the digest that bundle and cache end with. */
const DIGEST = 64

/** V8's code cache, if it belongs to this source: somebody may be building right now. */
function cacheOf(source) {
  try {
    const file = readFileSync(`${bundle}.cache`)
    const end = file.length - DIGEST
    return source.endsWith(file.toString('latin1', end)) ? file.subarray(0, end) : undefined
  } catch {
    return undefined
  }
}

/** Source maps by bundle. Read when somebody looks at a stack, and not before. */
const maps = new Map()

/** Where in the sources a line and a column (from 1) of a bundle come from: `lib/daemon/daemon.ts:42:7`. */
function place(file, line, column) {
  let map = maps.get(file)
  if (map === undefined) {
    const { SourceMap } = require('node:module')
    maps.set(file, (map = new SourceMap(JSON.parse(readFileSync(`${file}.map`, 'utf8')))))
  }
  const { originalSource, originalLine, originalColumn } = map.findEntry(line - 1, column - 1)
  return `${originalSource.replace(/^(\.\.\/)+/, '')}:${originalLine + 1}:${originalColumn + 1}`
}

function describe(frame) {
  const file = frame.getFileName()
  if (!file?.startsWith(__dirname) || !file.endsWith('.bundle.js')) return String(frame)
  const line = frame.getLineNumber()
  const column = frame.getColumnNumber()
  try {
    return String(frame).replace(`${file}:${line}:${column}`, place(file, line, column))
  } catch {
    return String(frame)
  }
}

Error.prepareStackTrace = (error, frames) =>
  [String(error), ...frames.map(frame => `    at ${describe(frame)}`)].join('\n')

// The bundle is ASCII, and a string of Latin-1 takes half the memory.
const source = readFileSync(filename, 'latin1')
const script = new Script(source, { filename, cachedData: cacheOf(source) })
script.runInThisContext()(exports, require, module, __filename, __dirname)

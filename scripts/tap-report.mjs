// The report of a tap run: a line for every test file, everything about what failed, and as the last line the counts
// that scripts/test adds up. Reads raw TAP from stdin: `tap -R tap … | node scripts/tap-report.mjs`.
import { createInterface } from 'node:readline'

const counts = { pass: 0, fail: 0, skip: 0, todo: 0 }
let finished = false
let block = []

for await (const line of createInterface({ input: process.stdin })) {
  const totals = /^# \{ total: .*\}$/.test(line)
  const file = /^(not )?ok \d+ - (.*?)(?: # time=([\d.]+)ms)?$/.exec(line)
  if (totals) {
    for (const [, name, n] of line.matchAll(/(pass|fail|skip|todo): (\d+)/g)) counts[name] = Number(n)
    finished = true
  } else if (file) {
    const seconds = file[3] === undefined ? '' : ` (${(Number(file[3]) / 1000).toFixed(1)} s)`
    if (file[1] !== undefined) console.log(block.filter(text => !/^ *(ok |1\.\.|$)/.test(text)).join('\n'))
    console.log(`${file[1] === undefined ? 'ok    ' : 'FAILED'} ${file[2]}${seconds}`)
    for (const text of block.filter(text => / # SKIP/.test(text)))
      console.log(`       skipped: ${text.trim()}`)
    block = []
  } else {
    block.push(line)
  }
}

if (!finished) console.log('tap ended without a summary: what it said last is above')
const failed = finished ? counts.fail : counts.fail + 1
console.log(`${counts.pass} passed, ${failed} failed, ${counts.skip + counts.todo} skipped`)
process.exitCode = failed === 0 ? 0 : 1

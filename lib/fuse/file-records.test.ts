import t from 'tap'
import { METRIC } from './abi.js'
import { FileRecords, fileReports, newFileTable, takeLatestRead } from './file-records.js'

t.test('parts are told together; hits, errors, sizes; the earliest read counts', async t => {
  const table = newFileTable(2, 1000, true)
  const [a, b] = [new FileRecords(table, 0), new FileRecords(table, 1)]
  // Far apart, and above 32 bits.
  const inos = [1, 2 ** 32 + 1, 7, 2 ** 37 - 1]
  const before = Date.now()
  for (const ino of inos) a.noteCall(ino, METRIC.LOOKUP, false)
  a.noteRead(7, 4096)
  a.noteCall(7, METRIC.READ, false)
  b.noteRead(7, 1 << 20)
  b.noteCall(7, METRIC.READ, false)
  b.noteCall(1, METRIC.READLINK, true)
  const reports = fileReports(table)
  t.same([...reports.keys()], inos)
  const seven = reports.get(7)
  t.match(seven, { bytesRead: 4096 + (1 << 20), readSizes: [0, 0, 1, 0, 0, 0, 0, 1] })
  t.same([seven?.hits[METRIC.READ], seven?.hits[METRIC.LOOKUP]], [2, 1])
  t.ok((seven?.firstRead ?? 0) > before - 5 && (seven?.firstRead ?? 0) < Date.now() + 5)
  t.equal(reports.get(1)?.firstRead, 0)
  t.equal(reports.get(1)?.errors[METRIC.READLINK], 1)
})

t.test('a writer that comes later goes on with the table', async t => {
  const table = newFileTable(1, 1000, false)
  new FileRecords(table, 0).noteRead(5, 10)
  const next = new FileRecords(table, 0)
  next.noteRead(5, 10)
  next.noteCall(5, METRIC.READ, false)
  next.noteCall(6, METRIC.GETATTR, false)
  t.match([...fileReports(table).values()], [{ ino: 5, bytesRead: 20 }])
})

t.test('each file that was read is told once', async t => {
  const table = newFileTable(3, 1000, false)
  const parts = [0, 1, 2].map(part => new FileRecords(table, part))
  parts.forEach((part, i) => {
    for (const ino of [9, 5, 100 + i]) part.noteRead(ino, 1)
  })
  t.same(takeLatestRead(table), [5, 9, 100, 101, 102])
  t.same(takeLatestRead(table), [])
  parts[1]?.noteRead(9, 1)
  t.same(takeLatestRead(table), [9])
})

t.test('files beyond the capacity are not noted, those within it still are', async t => {
  const table = newFileTable(1, 1_000_000, false, 100)
  const records = new FileRecords(table, 0)
  for (const round of [1, 2]) for (let ino = 1; ino <= 1000; ino++) records.noteRead(ino * 32, round)
  const reports = fileReports(table)
  t.equal(reports.size, 100)
  t.ok([...reports.values()].every(({ ino, bytesRead }) => ino <= 3200 && bytesRead === 3))
  t.match(newFileTable(1, 0, false), { capacity: 1 }, 'an image without inodes')
})

t.test('a read that failed after all is taken back', async t => {
  const table = newFileTable(2, 10, false)
  const [lane, yard] = [new FileRecords(table, 0), new FileRecords(table, 1)]
  lane.noteRead(3, 5000)
  lane.noteCall(3, METRIC.READ, false)
  yard.noteLostRead(3, 5000)
  const report = fileReports(table).get(3)
  t.match(report, { bytesRead: 0, readSizes: Array(8).fill(0) })
  t.same([report?.hits[METRIC.READ], report?.errors[METRIC.READ]], [1, 1])
})

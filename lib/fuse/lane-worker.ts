/**
 * The Worker of a lane: the place where its parts are put together. Waits for the mounts, then serves them until the
 * device stops.
 */
import { workerData } from 'node:worker_threads'
import { native } from '../native.js'
import { openRafs } from '../rafs/fs.js'
import type { MountChange } from '../vfs/changes.js'
import { Vfs } from '../vfs/vfs.js'
import type { ImageHandle } from '../rafs/handle.js'
import { stripeOf } from './counters.js'
import { FileRecords } from './file-records.js'
import { Lane } from './lane.js'
import type { LaneData } from './lane-messages.js'
import { checkRingLayout } from './ring.js'
import { RingMemory } from './ring-memory.js'

const data = workerData as LaneData
checkRingLayout(native.ringLayout())
const memory = new RingMemory(data.ring)
const tree = new Vfs<ImageHandle>(
  openRafs,
  opened => stripeOf(opened.counters, data.lane),
  stripeOf(data.counters, data.lane),
  data.fixedMounts,
  ({ files }) => (files === undefined ? null : new FileRecords(files, data.lane)),
)
data.port.once('message', (mounts: MountChange<ImageHandle>) => {
  const ring = native.attachLane(data.deviceId, data.lane, memory.u8)
  new Lane(ring, memory, tree, data).run(mounts)
})

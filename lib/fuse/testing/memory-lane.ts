/**
 * The Worker of a lane whose images are file systems in memory: as lane-worker.ts, but for what it opens.
 */
import { workerData } from 'node:worker_threads'
import { native } from '../../native.js'
import type { MountChange } from '../../vfs/changes.js'
import { MemoryFs, type MemoryImage } from '../../vfs/testing/memory-fs.js'
import { Vfs } from '../../vfs/vfs.js'
import { stripeOf } from '../counters.js'
import { Lane } from '../lane.js'
import type { LaneData } from '../lane-messages.js'
import { checkRingLayout } from '../ring.js'
import { RingMemory } from '../ring-memory.js'

const data = workerData as LaneData
checkRingLayout(native.ringLayout())
const memory = new RingMemory(data.ring)
const tree = new Vfs<MemoryImage>(
  image => new MemoryFs(image),
  opened => stripeOf(opened.counters, data.lane),
  stripeOf(data.counters, data.lane),
  data.fixedMounts,
)
data.port.once('message', (mounts: MountChange<MemoryImage>) => {
  new Lane(native.attachLane(data.deviceId, data.lane, memory.u8), memory, tree, data).run(mounts)
})

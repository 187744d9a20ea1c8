/**
 * The Worker of a lane that does what the changes of the mounts tell it, for tests of its supervision: no addon, no
 * requests.
 */
import { BroadcastChannel, workerData } from 'node:worker_threads'
import type { LaneData, LaneReport, Versioned } from '../lane-messages.js'

export type Act = 'throw' | 'exit' | 'ignore' | 'fail' | 'cold' | 'exception'

export interface Script extends Versioned {
  /** What this change makes each lane do, by number. */
  readonly acts: readonly (Act | undefined)[]
}

/** `stop` of a device. */
export function stopScriptedLanes(deviceId: number): void {
  const channel = new BroadcastChannel(`device-${deviceId}`)
  channel.postMessage('stop')
  channel.close()
}

const data = workerData as LaneData | null
if (data !== null) {
  const { port, lane } = data
  const report = (message: LaneReport): void => port.postMessage(message)
  const device = new BroadcastChannel(`device-${data.deviceId}`)
  device.addEventListener('message', () => {
    device.close()
    port.close()
  })
  port.on('message', ({ version, acts }: Script) => {
    const action = acts[lane]
    if (action === 'throw') throw new Error(`lane ${lane} was told to`)
    if (action === 'exit') process.exit(3)
    if (action === 'ignore') return
    if (action === 'cold') report({ kind: 'cold', numbers: Float64Array.of(5, 1, 2, 0, 1, 0, 9, 4096, 100) })
    if (action === 'exception') report({ kind: 'exception', opcode: 1, nodeid: 1, message: 'bad', count: 2 })
    const failures = action === 'fail' ? [{ slot: lane, code: 'VFS_OPEN', errno: 'EIO', message: 'no' }] : []
    report({ kind: 'applied', version, failures })
  })
}

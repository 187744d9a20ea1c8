/**
 * QEMU's command line for a guest whose files come over vhost-user-fs. A pure function of what is wanted: starting
 * the program is launch.ts's work.
 *
 * What a vhost-user device needs of QEMU: guest memory that can be shared (a memfd with `share=on`), because the
 * daemon maps it; and a queue size of 1024, because a READ takes one descriptor a page, so that QEMU's default
 * of 128 would cap reads at 496 KiB and the guest waits a millisecond whenever a queue is full.
 */

/** One vhost-user-fs device. */
export interface FsDevice {
  /** The daemon's vhost-user socket. */
  readonly socket: string
  /** What the guest mounts it by: `mount -t virtiofs TAG DIR`. At most 36 bytes. */
  readonly tag: string
  /** 1 when not given. Linux uses as many as it has CPUs. */
  readonly requestQueues?: number
  /** Descriptors a queue; 1024, QEMU's largest, when not given. */
  readonly queueSize?: number
}

export interface MachineShape {
  readonly kernel: string
  readonly initrd: string
  /** Further words of the kernel's command line. */
  readonly append?: string
  /** 256 when not given. */
  readonly memoryMiB?: number
  /** How far memory can grow while the guest runs; no slots for more when not given. */
  readonly maxMemoryMiB?: number
  /** 2 when not given. */
  readonly cpus?: number
  readonly fs: readonly FsDevice[]
}

/** Sockets on which the launcher listens and QEMU connects, so that nobody has to wait for a file to appear. */
export interface ControlSockets {
  readonly qmp: string
  readonly agent: string
}

/** Name of the virtio-serial port that the guest's agent opens. */
export const AGENT_PORT = 'nydus.agent'

const DIMM_SLOTS = 4

/** A value of one of QEMU's comma-separated options: a comma in it is doubled. */
function quote(value: string): string {
  return value.replaceAll(',', ',,')
}

function memory(shape: MachineShape): string[] {
  const size = shape.memoryMiB ?? 256
  const growth = shape.maxMemoryMiB === undefined ? '' : `,slots=${DIMM_SLOTS},maxmem=${shape.maxMemoryMiB}M`
  return [
    ...['-m', `size=${size}M${growth}`],
    ...['-object', `memory-backend-memfd,id=memory,size=${size}M,share=on`],
  ]
}

function fsDevice(device: FsDevice, index: number): string[] {
  const queues = device.requestQueues ?? 1
  const size = device.queueSize ?? 1024
  return [
    ...['-chardev', `socket,id=fs${index},path=${quote(device.socket)}`],
    ...[
      '-device',
      `vhost-user-fs-pci,chardev=fs${index},tag=${quote(device.tag)},queue-size=${size},num-request-queues=${queues}`,
    ],
  ]
}

/** Arguments for qemu-system-x86_64. The console is on standard input and output. */
export function qemuArguments(shape: MachineShape, control: ControlSockets): string[] {
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none'],
    // Emulation, not KVM: it works wherever QEMU does, in containers and on CI machines too.
    ...['-machine', 'q35,accel=tcg,memory-backend=memory', '-cpu', 'max', '-smp', String(shape.cpus ?? 2)],
    ...memory(shape),
    ...['-kernel', shape.kernel, '-initrd', shape.initrd],
    ...['-append', ['console=ttyS0', 'loglevel=4', 'panic=-1', shape.append ?? ''].join(' ').trim()],
    ...['-serial', 'stdio'],
    ...['-chardev', `socket,id=qmp,path=${quote(control.qmp)}`, '-mon', 'chardev=qmp,mode=control'],
    ...['-chardev', `socket,id=agent,path=${quote(control.agent)}`, '-device', 'virtio-serial-pci'],
    ...['-device', `virtserialport,chardev=agent,name=${AGENT_PORT}`],
    ...shape.fs.flatMap(fsDevice),
  ]
}

/**
 * vhost-user messages as the front-end sends them (vhost-user specification; vhost-user-fs.md §1 to §3).
 */
import { layout } from '../../lib/base/layout.js'

/** Requests of the front-end. */
export const VHOST = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_LOG_BASE: 6,
  SET_LOG_FD: 7,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SET_BACKEND_REQ_FD: 21,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  GET_INFLIGHT_FD: 31,
  SET_INFLIGHT_FD: 32,
  RESET_DEVICE: 34,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
  SET_STATUS: 39,
  GET_STATUS: 40,
  SET_DEVICE_STATE_FD: 42,
  CHECK_DEVICE_STATE: 43,
} as const

/** Bits of the header's flags; version 1 is always there. */
export const MESSAGE_FLAG = { VERSION: 1, REPLY: 4, NEED_REPLY: 8 } as const

/** Virtio feature bits. */
export const FEATURE = {
  LOG_ALL: 1n << 26n,
  INDIRECT_DESC: 1n << 28n,
  EVENT_IDX: 1n << 29n,
  PROTOCOL_FEATURES: 1n << 30n,
  VERSION_1: 1n << 32n,
} as const

export const PROTOCOL_FEATURE = {
  MQ: 1n << 0n,
  LOG_SHMFD: 1n << 1n,
  REPLY_ACK: 1n << 3n,
  BACKEND_REQ: 1n << 5n,
  CONFIG: 1n << 9n,
  INFLIGHT_SHMFD: 1n << 12n,
  RESET_DEVICE: 1n << 13n,
  CONFIGURE_MEM_SLOTS: 1n << 15n,
  STATUS: 1n << 16n,
  DEVICE_STATE: 1n << 19n,
} as const

/** What QEMU 7.2 acknowledges of what a vhost-user-fs back-end may offer. */
export const QEMU_PROTOCOL_FEATURES =
  PROTOCOL_FEATURE.MQ |
  PROTOCOL_FEATURE.LOG_SHMFD |
  PROTOCOL_FEATURE.REPLY_ACK |
  PROTOCOL_FEATURE.BACKEND_REQ |
  PROTOCOL_FEATURE.INFLIGHT_SHMFD |
  PROTOCOL_FEATURE.RESET_DEVICE |
  PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS |
  PROTOCOL_FEATURE.STATUS

/** VIRTIO_CONFIG_S_DRIVER_OK and NEEDS_RESET. */
export const STATUS = { DRIVER_OK: 8, NEEDS_RESET: 0x40 } as const

export const MessageHeader = layout('vhost_user_msg', 12, { request: 'u32', flags: 'u32', size: 'u32' })
export const VringState = layout('vhost_vring_state', 8, { index: 'u32', num: 'u32' })
/** `desc`, `used`, `avail` are addresses of the front-end, not of the guest. */
export const VringAddr = layout('vhost_vring_addr', 40, {
  index: 'u32',
  flags: 'u32',
  desc: 'u64',
  used: 'u64',
  avail: 'u64',
  log: 'u64',
})
export const U64 = layout('u64', 8, { value: 'u64' })
/** SET_VRING_KICK, CALL, ERR: bits 0 to 7 of a u64 are the queue, bit 8 says that no fd comes along. */
export const VRING_NO_FD = 1 << 8
export const MemTableHeader = layout('vhost_memory', 8, { regions: 'u32', padding: 'u32' })
export const MemRegion = layout('vhost_memory_region', 32, {
  gpa: 'u64',
  size: 'u64',
  userAddress: 'u64',
  mmapOffset: 'u64',
})
/** ADD_MEM_REG, REM_MEM_REG: a MemRegion behind 8 bytes. */
export const SingleRegion = layout('vhost_single_memory_region', 40, { padding: 'u64', region: [32] })
export const ConfigHeader = layout('vhost_user_config', 12, { offset: 'u32', size: 'u32', flags: 'u32' })
/** Virtio-fs configuration space (virtio 1.2 §5.11.4). */
export const FsConfig = layout('virtio_fs_config', 40, { tag: [36], requestQueues: 'u32' })
/** Packed to 20 bytes on the wire. */
export const Inflight = layout('vhost_user_inflight', 20, {
  mmapSize: 'u64',
  mmapOffset: 'u64',
  queues: 'u16',
  queueSize: 'u16',
})

/** Split virtqueues (virtio 1.2 §2.7), little-endian. */
export const VirtqDesc = layout('virtq_desc', 16, { addr: 'u64', len: 'u32', flags: 'u16', next: 'u16' })
export const DESC_FLAG = { NEXT: 1, WRITE: 2, INDIRECT: 4 } as const
/** Heads follow, 2 bytes each. */
export const VirtqAvail = layout('virtq_avail', 4, { flags: 'u16', idx: 'u16' })
export const VirtqHead = layout('virtq_avail_head', 2, { head: 'u16' })

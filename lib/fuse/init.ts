/**
 * INIT: what this server and a guest's kernel agree on. A guest that reboots asks again; of what it said only the flags
 * it offers are kept, and a server that has not heard of them (it took over from another one) asks no less of it.
 */
import { ERRNO } from '../base/errors.js'
import {
  FUSE_MINOR,
  FUSE_MINOR_OLDEST,
  FUSE_VERSION,
  INIT_FLAG,
  InHeader,
  InitIn,
  InitOut,
  INIT_IN_SHORT,
} from './abi.js'
import type { Replies } from './reply.js'
import { AT_ARG_LENGTH, AT_RAW, type RingMemory } from './ring-memory.js'

/**
 * What immutable content allows. Not among them: ATOMIC_O_TRUNC (a kernel that sends no OPEN would take the file for
 * empty; without it a SETATTR asks for permission), AUTO_INVAL_DATA and WRITEBACK_CACHE (files never change), locks (the
 * kernel's own are right), POSIX_ACL (ACLs are ordinary attributes), SUBMOUNTS (the mounts that it makes are
 * writable even if the one above is not).
 */
const WANTED =
  INIT_FLAG.ASYNC_READ |
  INIT_FLAG.EXPORT_SUPPORT |
  INIT_FLAG.BIG_WRITES |
  INIT_FLAG.DO_READDIRPLUS |
  INIT_FLAG.READDIRPLUS_AUTO |
  INIT_FLAG.ASYNC_DIO |
  INIT_FLAG.PARALLEL_DIROPS |
  INIT_FLAG.MAX_PAGES |
  INIT_FLAG.CACHE_SYMLINKS |
  INIT_FLAG.EXPLICIT_INVAL_DATA |
  INIT_FLAG.INIT_EXT

/** The kernel takes the smaller of this and its own. */
const MAX_READAHEAD = 4 << 20
/** Read-only, but buffers are sized by it. */
const MAX_WRITE = 1 << 20
/** 1 MiB requests. */
const MAX_PAGES = 256
/** Reads that a guest's read-ahead keeps in flight; the default of 12 throttles parallel readers. */
const MAX_BACKGROUND = 128
const CONGESTION_THRESHOLD = 96

const word = (offset: number): number => offset / 4
const IN = AT_RAW + word(InHeader.size)
const MAJOR = word(InitIn.at.major)
const MINOR = word(InitIn.at.minor)
const READAHEAD = word(InitIn.at.maxReadahead)
const FLAGS = word(InitIn.at.flags)

/** Answers INIT, and leaves the flags that the kernel offers in `offered[0]`. */
export function replyInit(ring: RingMemory, replies: Replies, at: number, offered: Uint32Array): void {
  const { u32 } = ring
  const got = u32[at + AT_ARG_LENGTH] as number
  if (got < INIT_IN_SHORT) return replies.error(at, -ERRNO.EINVAL)
  const major = u32[at + IN + MAJOR] as number
  const minor = u32[at + IN + MINOR] as number
  const readahead = u32[at + IN + READAHEAD] as number
  const flags = u32[at + IN + FLAGS] as number
  // A newer major: the kernel asks again with ours. An older one, or a minor with shorter structs: no.
  if (major < FUSE_VERSION || (major === FUSE_VERSION && minor < FUSE_MINOR_OLDEST))
    return replies.error(at, -ERRNO.EPROTO)
  Atomics.store(offered, 0, major > FUSE_VERSION ? 0 : flags)
  const out = replies.struct(at, InitOut.size)
  u32[out + word(InitOut.at.major)] = FUSE_VERSION
  u32[out + word(InitOut.at.minor)] = FUSE_MINOR
  if (major > FUSE_VERSION) return
  u32[out + word(InitOut.at.minor)] = Math.min(minor, FUSE_MINOR)
  u32[out + word(InitOut.at.maxReadahead)] = Math.min(readahead, MAX_READAHEAD)
  // No flag of the second word is of use without notifications, which virtio-fs does not have.
  u32[out + word(InitOut.at.flags)] = flags & WANTED
  u32[out + word(InitOut.at.maxBackground)] = MAX_BACKGROUND | (CONGESTION_THRESHOLD << 16)
  u32[out + word(InitOut.at.maxWrite)] = MAX_WRITE
  u32[out + word(InitOut.at.timeGran)] = 1
  u32[out + word(InitOut.at.maxPages)] = (flags & INIT_FLAG.MAX_PAGES) === 0 ? 0 : MAX_PAGES
}

/**
 * GUID partition tables (UEFI 2.10 §5.3), read from a disk that nobody vouches for: every number is checked
 * against the disk's size before it is used.
 */
import { crc32 } from '@node-rs/crc32'
import { NydusError } from '../base/errors.js'
import { layout, toSafe } from '../base/layout.js'

const GptHeader = layout('GPT header', 92, {
  signature: [8],
  revision: 'u32',
  headerSize: 'u32',
  headerCrc32: 'u32',
  reserved: 'u32',
  myLba: 'u64',
  alternateLba: 'u64',
  firstUsableLba: 'u64',
  lastUsableLba: 'u64',
  diskGuid: [16],
  partitionEntryLba: 'u64',
  numberOfPartitionEntries: 'u32',
  sizeOfPartitionEntry: 'u32',
  partitionEntryArrayCrc32: 'u32',
})

const GptEntry = layout('GPT partition entry', 128, {
  partitionTypeGuid: [16],
  uniquePartitionGuid: [16],
  startingLba: 'u64',
  /** Inclusive. */
  endingLba: 'u64',
  attributes: 'u64',
  /** UTF-16, ends at a NUL. */
  partitionName: [72],
})

const Guid = layout('GUID', 16, { low: 'u32', middle: [2], high: [2], rest: [8] })

const SIGNATURE = 'EFI PART'
/** Logical sector sizes of disks. */
const SECTORS = [512, 4096]
/** The specification reserves 16 KiB; no tool makes more than a few times that. */
const MAX_TABLE = 1 << 20

export interface Partition {
  /** Lower-case hex, without dashes. */
  readonly typeGuid: string
  readonly guid: string
  readonly name: string
  /** Bytes. */
  readonly offset: number
  readonly length: number
}

/** Reads `length` bytes at `offset`; never beyond the disk. */
export type ReadDisk = (offset: number, length: number) => Promise<Uint8Array>

/**
 * The partitions of a disk of `size` bytes; undefined when it has no partition table at all. A damaged first
 * table gives way to the copy at the end of the disk. Throws DISK_BAD_GPT when neither is good.
 */
export async function readGpt(read: ReadDisk, size: number): Promise<Partition[] | undefined> {
  let damage: NydusError | undefined
  for (const sector of SECTORS) {
    for (const offset of [sector, Math.floor(size / sector) * sector - sector]) {
      if (offset < sector || offset + GptHeader.size > size) continue
      const bytes = await read(offset, GptHeader.size)
      if (Buffer.from(bytes.subarray(0, SIGNATURE.length)).toString('latin1') !== SIGNATURE) continue
      try {
        return await readTable(read, size, sector, offset, bytes)
      } catch (error) {
        if (!(error instanceof NydusError)) throw error
        damage ??= error
      }
    }
  }
  if (damage !== undefined) throw damage
  return undefined
}

async function readTable(
  read: ReadDisk,
  size: number,
  sector: number,
  offset: number,
  bytes: Uint8Array,
): Promise<Partition[]> {
  const bad = (why: string) =>
    new NydusError('DISK_BAD_GPT', 'EIO', `partition table at ${offset}: ${why}; the disk is damaged`)
  const header = GptHeader.read(bytes)
  if (header.headerSize < GptHeader.size || header.headerSize > sector)
    throw bad(`header size ${header.headerSize} is not ${GptHeader.size} to ${sector}`)
  const whole = Buffer.from(await read(offset, header.headerSize))
  whole.fill(0, GptHeader.at.headerCrc32, GptHeader.at.headerCrc32 + 4)
  if (crc32(whole) !== header.headerCrc32) throw bad('the header does not match its checksum')
  const { numberOfPartitionEntries: count, sizeOfPartitionEntry: width } = header
  if (width < GptEntry.size || width % 8 !== 0 || count * width > MAX_TABLE)
    throw bad(`${count} entries of ${width} bytes are not credible`)
  const at = toBytes(header.partitionEntryLba, sector)
  if (at === undefined || at + count * width > size) throw bad('its entries lie outside of the disk')
  const table = await read(at, count * width)
  if (crc32(table) !== header.partitionEntryArrayCrc32) throw bad('the entries do not match their checksum')
  const partitions: Partition[] = []
  for (let i = 0; i < count; i++) {
    const entry = GptEntry.read(table, i * width)
    if (entry.partitionTypeGuid.every(byte => byte === 0)) continue
    const from = toBytes(entry.startingLba, sector)
    const to = toBytes(entry.endingLba + 1n, sector)
    if (from === undefined || to === undefined || to <= from || to > size)
      throw bad(`partition ${i + 1} lies outside of the disk`)
    partitions.push({
      typeGuid: guidText(entry.partitionTypeGuid),
      guid: guidText(entry.uniquePartitionGuid),
      name: nameText(entry.partitionName),
      offset: from,
      length: to - from,
    })
  }
  return partitions
}

function toBytes(lba: bigint, sector: number): number | undefined {
  const bytes = lba * BigInt(sector)
  return bytes > BigInt(Number.MAX_SAFE_INTEGER) ? undefined : toSafe(bytes, 'sector')
}

/** GUIDs are stored with their first three fields little-endian (RFC 4122 shows them big-endian). */
function guidText(bytes: Uint8Array): string {
  const { low, middle, high, rest } = Guid.read(bytes)
  const swapped = [Buffer.from(middle).reverse(), Buffer.from(high).reverse(), Buffer.from(rest)]
  return low.toString(16).padStart(8, '0') + Buffer.concat(swapped).toString('hex')
}

function nameText(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('utf16le')
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}

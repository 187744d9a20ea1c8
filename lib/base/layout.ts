/**
 * Binary layouts as tables of fields.
 *
 * A struct is declared once: name, documented size, fields in order. Offsets are computed, never typed in; a
 * table whose fields do not add up to the documented size does not load. All integers are little-endian, as in
 * every format and protocol this project speaks.
 */

/** Width of a field: an unsigned or signed integer, a double, or `bytes(n)` for raw bytes (`[n]`). */
export type FieldType = 'u8' | 'u16' | 'u32' | 'u64' | 'i32' | 'i64' | 'f64' | readonly [bytes: number]

type FieldValue<T extends FieldType> = T extends 'u64' | 'i64'
  ? bigint
  : T extends string
    ? number
    : Uint8Array

export type Fields = Readonly<Record<string, FieldType>>
export type StructOf<F extends Fields> = { -readonly [K in keyof F]: FieldValue<F[K]> }

export interface Layout<F extends Fields> {
  readonly name: string
  /** Bytes of one struct. */
  readonly size: number
  /** Byte offset of each field, for code that reads in place. */
  readonly at: { readonly [K in keyof F]: number }
  readonly fields: F
  /** Reads every field of the struct that starts at `offset`. Throws RangeError when `bytes` is too short. */
  read(bytes: Uint8Array, offset?: number): StructOf<F>
  /** Writes the given fields (all others become zero) at `offset`. Throws RangeError when it does not fit. */
  write(bytes: Uint8Array, value: Partial<StructOf<F>>, offset?: number): void
}

const WIDTH = { u8: 1, u16: 2, u32: 4, u64: 8, i32: 4, i64: 8, f64: 8 } as const

function widthOf(type: FieldType): number {
  return typeof type === 'string' ? WIDTH[type] : type[0]
}

/**
 * Declares a struct. `size` is the size its specification gives; the sum of the fields must equal it.
 *
 * ```ts
 * const InHeader = layout('fuse_in_header', 40, { len: 'u32', opcode: 'u32', … })
 * InHeader.at.opcode // 4
 * ```
 */
export function layout<const F extends Fields>(name: string, size: number, fields: F): Layout<F> {
  const at: Record<string, number> = {}
  let end = 0
  for (const [field, type] of Object.entries(fields)) {
    at[field] = end
    end += widthOf(type)
  }
  if (end !== size)
    throw new RangeError(`layout ${name}: fields take ${end} bytes, its specification says ${size}`)
  const entries = Object.entries(fields)

  function view(bytes: Uint8Array, offset: number): DataView {
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + size > bytes.byteLength)
      throw new RangeError(`${name}: needs ${size} bytes at ${offset}, only ${bytes.byteLength} are there`)
    return new DataView(bytes.buffer, bytes.byteOffset + offset, size)
  }

  return {
    name,
    size,
    at: at as { [K in keyof F]: number },
    fields,
    read(bytes, offset = 0) {
      const v = view(bytes, offset)
      const out: Record<string, number | bigint | Uint8Array> = {}
      for (const [field, type] of entries) {
        const o = at[field] as number
        if (typeof type !== 'string') out[field] = bytes.slice(offset + o, offset + o + type[0])
        else if (type === 'u8') out[field] = v.getUint8(o)
        else if (type === 'u16') out[field] = v.getUint16(o, true)
        else if (type === 'u32') out[field] = v.getUint32(o, true)
        else if (type === 'i32') out[field] = v.getInt32(o, true)
        else if (type === 'f64') out[field] = v.getFloat64(o, true)
        else if (type === 'u64') out[field] = v.getBigUint64(o, true)
        else out[field] = v.getBigInt64(o, true)
      }
      return out as StructOf<F>
    },
    write(bytes, value, offset = 0) {
      const v = view(bytes, offset)
      bytes.fill(0, offset, offset + size)
      for (const [field, type] of entries) {
        const x = value[field as keyof F]
        if (x === undefined) continue
        const o = at[field] as number
        if (typeof x === 'object') {
          if (x.byteLength > widthOf(type))
            throw new RangeError(`${name}.${field}: ${x.byteLength} bytes do not fit in ${widthOf(type)}`)
          bytes.set(x, offset + o)
        } else if (typeof type !== 'string') throw new TypeError(`${name}.${field}: bytes expected`)
        else if (type === 'u64') v.setBigUint64(o, BigInt(x), true)
        else if (type === 'i64') v.setBigInt64(o, BigInt(x), true)
        else if (type === 'f64') v.setFloat64(o, Number(x), true)
        else if (type === 'u8') v.setUint8(o, Number(x))
        else if (type === 'u16') v.setUint16(o, Number(x), true)
        else if (type === 'i32') v.setInt32(o, Number(x), true)
        else v.setUint32(o, Number(x), true)
      }
    },
  }
}

/** A 64-bit value as a number; throws RangeError when it is above 2^53 - 1 and could not be exact. */
export function toSafe(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < BigInt(Number.MIN_SAFE_INTEGER))
    throw new RangeError(`${what}: ${value} is out of range (more than 2^53)`)
  return Number(value)
}

/** Building blocks of the configuration's declarations: one optional value with its default each. */
import * as z from 'zod'

// A compiled parser pays when it is used often; a configuration is read once, and takes 5 ms less without.
z.config({ jitless: true })

/** `null` counts as absent: the API shows absent values as null, and clients send back what they got. */
function optional<T extends z.ZodType>(schema: T, value: z.output<T>) {
  return schema
    .nullish()
    .transform((given): z.output<T> => given ?? value)
    .meta({ default: value })
}

export const flag = (value = false) => optional(z.boolean(), value)

export const text = (value = '') => optional(z.string(), value)

/** A text that must be there and not be empty. */
export const required = () => z.string().min(1)

/** A whole number of 0 or more; the upper bound is what the number is for. */
export const count = (value: number, max = Number.MAX_SAFE_INTEGER) =>
  optional(z.int().min(0).max(max), value)

export const texts = () => optional(z.array(z.string()), [])

export const textMap = () => optional(z.record(z.string(), z.string()), {})

/** A table that may be missing: all its keys then have their defaults. */
export const section = <S extends z.ZodRawShape>(shape: S) => {
  const object = z.strictObject(shape)
  return z.preprocess(given => given ?? {}, object)
}

/** An empty text means "none", as in the snapshotter's templates. */
export const textOrNull = () =>
  z
    .string()
    .nullish()
    .transform(given => (given === undefined || given === '' ? null : given))

/** The reference's limit for merged requests, in bytes. */
export const MAX_BATCH = 0x1000_0000
export const MAX_THREADS = 1024

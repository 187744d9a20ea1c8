/** Bodies of the API, as zod declarations. A module of its own: a daemon that was asked nothing loads no zod. */
import * as z from 'zod'

export const mountBody = z.object({
  fs_type: z.string().meta({ description: '`rafs`' }),
  source: z.string().meta({ description: 'Bootstrap file on the host.' }),
  config: z.string().meta({ description: 'Text of a configuration, v1 or v2.' }),
  prefetch_files: z
    .array(z.string())
    .nullish()
    .meta({ description: 'Absolute paths of the image to fetch ahead.' }),
})

/** `PUT /api/v1/mount` of 2020: the mountpoint is in the body, `config` is the path of a file. */
export const mountBody2020 = z.object({
  source: z.string().nullish(),
  fstype: z.string().nullish(),
  mountpoint: z.string(),
  config: z.string().nullish(),
  ops: z.enum(['mount', 'umount', 'update']).nullish(),
})

export const daemonBody = z.object({ log_level: z.string() })

export const settingsBody = z.record(z.string(), z.string())

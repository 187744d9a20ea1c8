/**
 * Settings that change while the daemon runs (`PUT /api/v1/config`), by configuration id. They may be set before
 * anything with that id is mounted, and outlive its mounts.
 */
import { NydusError } from '../base/errors.js'
import { withoutUserinfo } from './config/issues.js'
import type { Settings } from './control.js'
import { SECRET_KEYS } from './secret-keys.js'

/** The snapshotter has one id per image; a caller that invents ids must not fill the memory. */
const MAX_IDS = 65_536
const MAX_VALUE_BYTES = 65_536

function shown(key: string, value: string): string {
  return SECRET_KEYS.has(key) ? '***' : withoutUserinfo(value)
}

export class SettingsStore {
  readonly #byId = new Map<string, Settings>()

  of(id: string): Settings {
    return this.#byId.get(id) ?? {}
  }

  /** Adds to what is set for the id. Throws NydusError SETTINGS_LIMIT. */
  change(id: string, settings: Settings): void {
    if (!this.#byId.has(id) && this.#byId.size >= MAX_IDS)
      throw new NydusError('SETTINGS_LIMIT', 'ENOMEM', `settings of more than ${MAX_IDS} ids are not kept`)
    for (const [key, value] of Object.entries({ id, ...settings }))
      if (Buffer.byteLength(value) > MAX_VALUE_BYTES)
        throw new NydusError('SETTINGS_LIMIT', 'EINVAL', `${key} has more than ${MAX_VALUE_BYTES} bytes`)
    this.#byId.set(id, { ...this.of(id), ...settings })
  }

  /** Of one id by key, or of all as `id:key`; without secrets. */
  list(id?: string): Record<string, string> {
    const out: Record<string, string> = {}
    for (const [at, settings] of this.#byId)
      if (id === undefined || at === id)
        for (const [key, value] of Object.entries(settings))
          out[id === undefined ? `${at}:${key}` : key] = shown(key, value)
    return out
  }
}

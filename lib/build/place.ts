/** Where an output goes, when its name may be known only at the end. */
import { join } from 'node:path'

/** A file, or a folder in which the file gets its name when its content is known. */
export type Place = { readonly file: string } | { readonly folder: string }

/** What there is before the name is known: the file, or the folder. */
export function pathOf(place: Place): string {
  return 'file' in place ? place.file : place.folder
}

/** Path of the finished output; `name` for a folder that it is to go into. */
export function placed(place: Place, name: string): string {
  return 'file' in place ? place.file : join(place.folder, name)
}

/**
 * A blob id comes out of an image that nobody vouches for, and becomes a file name and a part of URLs. Ids are
 * 64 hex digits unless a builder was told otherwise, so what is refused here is only what could leave the folder.
 */
import { NydusError } from './errors.js'

/** Bytes that a blob id may have: the field of the RAFS v6 blob table has 64, v5 ids end at a NUL. */
const MAX_LENGTH = 200

/** Returns `id` when it is safe as one path component; throws BLOB_BAD_ID otherwise. */
export function checkBlobId(id: string): string {
  if (id === '' || id.length > MAX_LENGTH || /^\.{1,2}$|[/\\?#%\s]|[^\x21-\x7e]/.test(id))
    throw new NydusError(
      'BLOB_BAD_ID',
      'EINVAL',
      `blob id ${JSON.stringify(id.slice(0, MAX_LENGTH))} is refused: it must be 1 to ${MAX_LENGTH} ` +
        'printable characters without slashes, blanks and URL delimiters; the image is damaged or hostile',
    )
  return id
}

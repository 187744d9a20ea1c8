/** An object's name as the path of a URL: every byte but the unreserved ones and `/` percent-encoded (RFC 3986). */
export function objectKey(name: string): string {
  return name
    .split('/')
    .map(part =>
      encodeURIComponent(part).replaceAll(/[!'()*]/g, c => `%${c.charCodeAt(0).toString(16).toUpperCase()}`),
    )
    .join('/')
}

/** Device numbers: images hold the kernel's 32-bit coding (rafs-v5.md §5). */

export function deviceNumber32(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & 0xfff00) << 12)) >>> 0
}

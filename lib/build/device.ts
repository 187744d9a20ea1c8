/** Device numbers: images hold the kernel's 32-bit coding (rafs-v5.md §5), stat(2) gives glibc's of 64 bits. */

export function deviceNumber32(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & 0xfff00) << 12)) >>> 0
}

/** From glibc's dev_t (sys/sysmacros.h). */
export function deviceNumber(rdev: bigint): number {
  const major = Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n))
  const minor = Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n))
  return deviceNumber32(major, minor)
}

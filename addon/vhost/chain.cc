#include "vhost/chain.h"

#include <algorithm>

namespace nydus {
namespace {

constexpr uint32_t kCacheLine = 64;
// Of the buffers of one kind: header and arguments of a request, header and
// body of a small reply.
constexpr size_t kLinesAhead = 4;

template <typename Fetch>
void eachLine(std::span<const BufferSpan> spans, Fetch fetch) noexcept {
  size_t lines = 0;
  for (const BufferSpan& span : spans) {
    for (uint32_t at = 0; at < span.length; at += kCacheLine) {
      if (lines++ == kLinesAhead)
        return;
      fetch(span.host + at);
    }
  }
}

}  // namespace

void prefetchRequest(const Chain& chain) noexcept {
  eachLine(chain.readSpans(),
           [](const std::byte* at) { __builtin_prefetch(at); });
}

void prefetchReply(const Chain& chain) noexcept {
  eachLine(chain.writeSpans(),
           [](const std::byte* at) { __builtin_prefetch(at, 1); });
}

const char* ChainWalker::walk(const RingMemory& ring,
                              const GuestMemory& memory,
                              const Descriptor& first,
                              Chain& out) {
  out.spans.clear();
  out.readableSpans = 0;
  out.readable = 0;
  out.writable = 0;
  out.readFault = false;
  out.writeFault = false;
  Descriptor descriptor = first;
  // At most `size` descriptors: one more means a loop.
  for (uint32_t budget = ring.size(); budget > 0; budget--) {
    if ((descriptor.flags & kDescriptorIndirect) != 0) {
      return walkTable(memory, descriptor, ring.size(), out);
    }
    if (const char* problem = append(memory, descriptor, out))
      return problem;
    if ((descriptor.flags & kDescriptorNext) == 0)
      return nullptr;
    if (descriptor.next >= ring.size()) {
      return "a descriptor's next is outside the table";
    }
    descriptor = ring.descriptor(descriptor.next);
  }
  return "a descriptor chain loops";
}

void ChainWalker::prefetch(const GuestMemory& memory,
                           const Descriptor& first) noexcept {
  if ((first.flags & kDescriptorIndirect) == 0)
    return;
  // Four lines hold 16 descriptors: the whole chain of a small request.
  const GuestMemory::Slice table =
      memory.slice(first.address, std::min<uint32_t>(first.length, 256), hint_);
  for (uint64_t i = 0; i < table.length; i += 64) {
    __builtin_prefetch(table.host + i);
  }
}

const char* ChainWalker::walkTable(const GuestMemory& memory,
                                   const Descriptor& holder,
                                   uint16_t ringSize,
                                   Chain& out) {
  if (!indirect_)
    return "an indirect descriptor was not negotiated";
  if ((holder.flags & kDescriptorNext) != 0) {
    return "an indirect descriptor has a next";
  }
  // Linux uses a direct part before the table never; virtio 1.2 §2.7.5.3.1
  // allows it, and so does this code.
  const uint32_t count = holder.length / sizeof(Descriptor);
  if (count == 0 || holder.length % sizeof(Descriptor) != 0) {
    return "an indirect table's length is not a multiple of 16";
  }
  if (count > std::max<uint32_t>(ringSize, kMinIndirectLimit)) {
    return "an indirect table is too long";
  }
  const std::byte* table = memory.at(holder.address, holder.length, hint_);
  if (table == nullptr) {
    return "an indirect table is not within one memory region";
  }
  if (table_.size() < count)
    table_.resize(count);
  copyOnce(table_.data(), table, holder.length);
  uint32_t at = 0;
  for (uint32_t budget = count; budget > 0; budget--) {
    const Descriptor& descriptor = table_[at];
    if ((descriptor.flags & kDescriptorIndirect) != 0) {
      return "an indirect table holds another";
    }
    if (const char* problem = append(memory, descriptor, out))
      return problem;
    if ((descriptor.flags & kDescriptorNext) == 0)
      return nullptr;
    if (descriptor.next >= count) {
      return "a descriptor's next is outside its indirect table";
    }
    at = descriptor.next;
  }
  return "an indirect descriptor chain loops";
}

const char* ChainWalker::append(const GuestMemory& memory,
                                const Descriptor& descriptor,
                                Chain& out) {
  const bool writable = (descriptor.flags & kDescriptorWrite) != 0;
  if (!writable && out.writable != 0) {
    return "a readable descriptor follows a writable one";
  }
  if (uint64_t{out.readable} + out.writable + descriptor.length > kMaxBytes) {
    return "a descriptor chain is too long";
  }
  bool& fault = writable ? out.writeFault : out.readFault;
  uint64_t address = descriptor.address;
  uint32_t left = descriptor.length;
  while (left > 0 && !fault) {
    const GuestMemory::Slice found = memory.slice(address, left, hint_);
    if (found.host == nullptr) {
      fault = true;
      break;
    }
    const auto length = static_cast<uint32_t>(found.length);
    BufferSpan* last = out.spans.empty() ? nullptr : &out.spans.back();
    const bool sameKind = !writable || out.writable != 0;
    if (last != nullptr && sameKind &&
        last->host + last->length == found.host &&
        last->gpa + last->length == address) {
      last->length += length;
    } else {
      out.spans.push_back({found.host, address, length});
      if (!writable)
        out.readableSpans++;
    }
    (writable ? out.writable : out.readable) += length;
    address += length;
    left -= length;
  }
  return nullptr;
}

}  // namespace nydus

#include "test/frontend/fuse_queue.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "fuse/abi.h"

namespace nydus::frontend {
namespace {

constexpr uint32_t kPageSize = 4096;
// Enough to see what a confused device does; more would be a leak.
constexpr size_t kMaxStrays = 4096;

// How often an eventfd was signalled since the last call.
uint64_t signals(const EventFd& event) noexcept {
  uint64_t count = 0;
  return ::read(event.get(), &count, sizeof count) == sizeof count ? count : 0;
}

}  // namespace

FuseQueue::FuseQueue(GuestSpace& space,
                     const QueueOptions& options,
                     Completions& completions)
    : space_(space),
      options_(options),
      completions_(completions),
      ring_(space, options.size, options.eventIdx),
      inFlight_(options.size) {}

FuseQueue::~FuseQueue() {
  for (const auto& flight : inFlight_) {
    if (flight) {
      giveBack(*flight);
    }
  }
}

std::optional<uint64_t> FuseQueue::take(InFlight& flight,
                                        uint32_t length,
                                        bool page) {
  const auto gpa = space_.allocate(length, page ? kPageSize : 64);
  if (gpa) {
    flight.pieces.push_back({*gpa, length});
  }
  return gpa;
}

void FuseQueue::giveBack(const InFlight& flight) {
  for (const Buffer& piece : flight.pieces) {
    space_.release(piece.gpa, piece.length);
  }
}

bool FuseQueue::build(const Request& request,
                      InFlight& flight,
                      std::vector<Buffer>& readable) {
  uint32_t total = sizeof(InHeader);
  for (const auto& argument : request.arguments) {
    total += static_cast<uint32_t>(argument.size());
  }
  InHeader header = {};
  header.len = total;
  header.opcode = request.opcode;
  header.unique = request.unique;
  header.nodeid = request.nodeid;
  header.uid = request.uid;
  header.gid = request.gid;
  header.pid = request.pid;

  // FORGET is one buffer; all others have one for each part.
  const auto head =
      take(flight, request.replies ? sizeof header : total, false);
  if (!head) {
    return false;
  }
  std::memcpy(space_.host(*head), &header, sizeof header);
  readable.push_back({*head, sizeof header});
  for (const auto& argument : request.arguments) {
    const auto length = static_cast<uint32_t>(argument.size());
    if (!request.replies) {
      std::memcpy(space_.host(*head) + readable[0].length, argument.data(),
                  length);
      readable[0].length += length;
      continue;
    }
    if (length == 0) {
      continue;
    }
    const auto gpa = take(flight, length, false);
    if (!gpa) {
      return false;
    }
    std::memcpy(space_.host(*gpa), argument.data(), length);
    readable.push_back({*gpa, length});
  }
  if (!request.replies) {
    return true;
  }
  const auto out = take(flight, sizeof(OutHeader), false);
  if (!out) {
    return false;
  }
  flight.writable.push_back({*out, sizeof(OutHeader)});
  uint32_t left = request.replyCapacity;
  while (left > 0) {
    const uint32_t length = request.pages ? std::min(left, kPageSize) : left;
    const auto gpa = take(flight, length, request.pages);
    if (!gpa) {
      return false;
    }
    flight.writable.push_back({*gpa, length});
    left -= length;
  }
  if (request.pages) {
    // Not in the order of their addresses: a device must not take neighbours
    // for granted.
    std::reverse(flight.writable.begin() + 1, flight.writable.end());
    if (request.replyCapacity % kPageSize != 0) {
      std::rotate(flight.writable.begin() + 1, flight.writable.begin() + 2,
                  flight.writable.end());
    }
  }
  return true;
}

bool FuseQueue::submit(const Request& request) {
  InFlight flight;
  flight.unique = request.unique;
  flight.replies = request.replies;
  std::vector<Buffer> readable;
  if (!build(request, flight, readable)) {
    giveBack(flight);
    return false;
  }
  const size_t count = readable.size() + flight.writable.size();
  std::optional<uint16_t> head;
  const std::lock_guard lock(lock_);
  if (options_.indirect && request.replies) {
    const auto bytes = static_cast<uint32_t>(count * sizeof(RingDescriptor));
    const auto table = take(flight, bytes, false);
    if (table) {
      DriverRing::writeTable(space_.host(*table), readable, flight.writable);
      head = ring_.addIndirect(*table, bytes);
    }
  } else {
    head = ring_.add(readable, flight.writable);
  }
  if (!head) {
    giveBack(flight);
    return false;
  }
  inFlight_[*head] = std::move(flight);
  ring_.expose(*head);
  if (ring_.publish()) {
    kick();
  }
  return true;
}

void FuseQueue::kick() noexcept {
  kick_.signal();
  countKick();
}

void FuseQueue::countKick() noexcept {
  kicks_.fetch_add(1, std::memory_order_relaxed);
}

void FuseQueue::clearCall() noexcept {
  interrupts_.fetch_add(signals(call_), std::memory_order_relaxed);
}

uint64_t FuseQueue::errors() noexcept {
  const uint64_t more = signals(error_);
  return errors_.fetch_add(more, std::memory_order_relaxed) + more;
}

size_t FuseQueue::drain(const Owner& owner) {
  size_t count = 0;
  while (const auto element = ring_.pop()) {
    count++;
    if (owner == nullptr || !owner(*element)) {
      complete(*element);
    }
  }
  return count;
}

void FuseQueue::reap(bool interruptsOff) {
  const std::lock_guard lock(lock_);
  do {
    drain(nullptr);
  } while (!interruptsOff && !ring_.enableInterrupts());
}

void FuseQueue::complete(const UsedElement& element) {
  if (element.id >= inFlight_.size() || !inFlight_[element.id]) {
    if (strays_.size() < kMaxStrays) {
      strays_.push_back({element.id, element.length});
    }
    return;
  }
  const InFlight flight = std::move(*inFlight_[element.id]);
  inFlight_[element.id].reset();
  ring_.free(static_cast<uint16_t>(element.id));
  Completion completion = check(flight, element.length);
  giveBack(flight);
  completions_.deliver(std::move(completion));
}

Completion FuseQueue::check(const InFlight& flight, uint32_t usedLength) const {
  Completion completion;
  completion.unique = flight.unique;
  uint32_t capacity = 0;
  for (const Buffer& buffer : flight.writable) {
    capacity += buffer.length;
  }
  if (usedLength > capacity) {
    completion.problem = "used.len " + std::to_string(usedLength) +
                         " is more than the " + std::to_string(capacity) +
                         " bytes that were writable";
    return completion;
  }
  if (!flight.replies) {
    return completion;
  }
  if (options_.checkUsedLength && usedLength == 0) {
    completion.problem = "the request was dropped: used.len is 0";
    return completion;
  }
  OutHeader header;
  std::memcpy(&header, space_.host(flight.writable[0].gpa), sizeof header);
  completion.error = header.error;
  if (header.unique != flight.unique) {
    completion.problem = "the reply is for unique " +
                         std::to_string(header.unique) + ", the request was " +
                         std::to_string(flight.unique);
  } else if (header.len < sizeof header || header.len > capacity) {
    completion.problem = "the reply's length " + std::to_string(header.len) +
                         " is not between 16 and " + std::to_string(capacity);
  } else if (options_.checkUsedLength && usedLength != header.len) {
    completion.problem = "used.len is " + std::to_string(usedLength) +
                         ", the reply's length " + std::to_string(header.len);
  } else if (header.error > 0 || header.error < kLowestError) {
    completion.problem =
        "the reply's error " + std::to_string(header.error) + " is no -errno";
  } else if (header.error != 0 && header.len != sizeof header) {
    completion.problem = "an error reply has a body";
  }
  if (!completion.problem.empty()) {
    return completion;
  }
  uint32_t left = header.len - static_cast<uint32_t>(sizeof header);
  completion.body.reserve(left);
  for (size_t i = 1; i < flight.writable.size() && left > 0; i++) {
    const Buffer& buffer = flight.writable[i];
    const uint32_t length = std::min(left, buffer.length);
    const std::byte* from = space_.host(buffer.gpa);
    completion.body.insert(completion.body.end(), from, from + length);
    left -= length;
  }
  return completion;
}

void FuseQueue::reset() {
  const std::lock_guard lock(lock_);
  for (auto& flight : inFlight_) {
    if (flight) {
      giveBack(*flight);
      flight.reset();
    }
  }
  strays_.clear();
  ring_.reset();
}

size_t FuseQueue::inFlight() const {
  const std::lock_guard lock(lock_);
  return static_cast<size_t>(
      std::count_if(inFlight_.begin(), inFlight_.end(),
                    [](const auto& flight) { return flight.has_value(); }));
}

std::vector<Stray> FuseQueue::takeStrays() {
  const std::lock_guard lock(lock_);
  return std::exchange(strays_, {});
}

}  // namespace nydus::frontend

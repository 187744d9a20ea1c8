// One ring of a connection: what the front-end has said about it, and the run
// that comes of it.
//
//     size + addresses + kick ──> started ── GET_VRING_BASE ──> stopped
//
// Requests are processed while it is started and enabled; the two are
// independent. A front-end may enable a ring and never give it addresses.
// Control thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "base/result.h"
#include "fuse/fuse_service.h"
#include "fuse/lane_port.h"
#include "vhost/device_event.h"
#include "vhost/queue_run.h"

namespace nydus {

// What all rings of a connection share.
struct RingContext {
  uint64_t features = 0;
  GuestMemory::Table memory;
  // Null unless LOG_ALL is on and there is a log.
  std::shared_ptr<const DirtyLog> log;
  std::shared_ptr<InflightArea> inflight;
};

class Ring {
 public:
  // The longest that QEMU allows, and enough for 1 MiB requests.
  static constexpr uint32_t kMaxSize = 1024;

  struct Place {
    uint32_t index;
    LanePort& port;
    FuseService& service;
    QueueCounters& counters;
    QueueOwner& owner;
    const EventSink& event;
  };
  explicit Ring(const Place& place) : place_(place) {}
  // Drops what is in flight.
  ~Ring() { abandon(); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  Status setSize(uint32_t size, const RingContext& context);
  Status setBase(uint32_t base);
  // May come while the ring runs, to switch its log.
  Status setAddresses(const RingAddresses& addresses,
                      const RingContext& context);
  // Null: the front-end attaches none; the ring must be polled.
  Status setKick(PeerSignal::Ptr kick, const RingContext& context);
  void setCall(PeerSignal::Ptr call);
  void setError(PeerSignal::Ptr error);
  Status setEnabled(bool enabled, const RingContext& context);

  // Waits until nothing is in flight, at most `limit`, or until `giveUp` says
  // that nobody waits for it any more; what is open then gets EIO. Returns the
  // next available index.
  uint16_t stop(std::chrono::milliseconds limit,
                const std::function<bool()>& giveUp);
  // Answers what is open with EIO and stops: the device goes away.
  void fail();
  // Stops without another word to the guest; `wait`: no thread writes to its
  // memory any more afterwards (bounded).
  void abandon(bool wait = false);

  void setMemory(const GuestMemory::Table& memory);
  void setLog(const std::shared_ptr<const DirtyLog>& log);
  [[nodiscard]] bool running() const noexcept { return run_ != nullptr; }
  [[nodiscard]] bool broken() const {
    return run_ != nullptr && run_->broken();
  }

 private:
  Status startIfComplete(const RingContext& context);
  void unplug();
  void report(EventLevel level, const char* kind, std::string message) const;

  const Place place_;
  uint16_t size_ = 0;
  uint16_t base_ = 0;
  bool enabled_ = false;
  bool kicked_ = false;
  std::optional<RingAddresses> addresses_;
  PeerSignal::Ptr kick_;
  PeerSignal::Ptr call_;
  PeerSignal::Ptr error_;
  std::shared_ptr<QueueRun> run_;
};

}  // namespace nydus

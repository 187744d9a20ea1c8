// One vhost-user-fs device: it listens, serves one front-end at a time, and is
// ready for the next when that one goes.
//
//     front-end ── control thread: Connection ── Ring ── QueueRun ─┐
//                                                                  │ LanePort
//     guest ════ queue 0 ══════════ NativeLoop (FORGET) ═══════════╡
//     guest ════ queue 1 … n ══════ Lane, one Worker each ═════════╛
//
// It knows nothing of images, files or Node.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/event_fd.h"
#include "fuse/fuse_service.h"
#include "fuse/lane_port.h"
#include "fuse/native_loop.h"
#include "vhost/connection.h"
#include "vhost/device_options.h"
#include "vhost/listener.h"

namespace nydus {

class Device final : private QueueOwner {
 public:
  // Listens when it returns. Throws SystemError.
  explicit Device(DeviceOptions options);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  [[nodiscard]] FuseService& service() noexcept { return service_; }
  // Null when there is no such lane.
  [[nodiscard]] LanePort* lanePort(uint32_t lane) noexcept;
  // Makes every lane look into its mailbox.
  void ringLanes() noexcept;
  // Makes every lane return for good; the rest goes on until stop().
  void stopLanes() noexcept;
  // Open requests get EIO, the front-end and the socket are closed. Idempotent.
  void stop() noexcept;

  using Totals = std::vector<std::pair<const char*, uint64_t>>;
  [[nodiscard]] Totals totals() const;

 private:
  void queueBroken(uint32_t queue, const std::string& reason) override;

  // Control thread.
  void run();
  [[nodiscard]] int timeoutMs() const;
  void acceptFrontEnd();
  void dropFrontEnd(std::string why);
  void report(EventLevel level, const char* kind, std::string message) const;

  const DeviceOptions options_;
  FuseService service_;
  std::vector<QueueCounters> queueCounters_;
  Counter connections_;
  Counter refused_;
  LanePort hiprioPort_;
  std::vector<std::unique_ptr<LanePort>> lanePorts_;
  std::optional<Connection::Host> host_;
  std::atomic<bool> stopping_{false};
  EventFd wake_;
  std::optional<Listener> listener_;
  // Control thread only.
  std::optional<Connection> connection_;
  std::mutex stopLock_;
  // Last: they use all of the above.
  std::optional<NativeLoop> hiprio_;
  std::jthread control_;
};

}  // namespace nydus

#include "codec/xts.h"

#include <openssl/evp.h>

#include <memory>
#include <new>

namespace nydus::codec {
namespace {

// The shortest data unit that XTS can encrypt.
constexpr size_t kMinimum = 16;
// What shorter ones are padded to: bytes that tell how many were added, and a
// mark.
constexpr size_t kPadded = 18;
constexpr std::byte kMark[] = {std::byte{0x78}, std::byte{0x90}};

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const {
    EVP_CIPHER_CTX_free(context);
  }
};

size_t withoutPadding(Source plain) {
  if (plain.size() != kPadded || plain[kMinimum] != kMark[0] ||
      plain[kMinimum + 1] != kMark[1])
    return plain.size();
  const auto added = std::to_integer<size_t>(plain[kMinimum - 1]);
  return added >= 1 && added <= kMinimum ? kMinimum - added : plain.size();
}

}  // namespace

Outcome xtsDecrypt(const XtsKey& key, Source src, Target dst) {
  if (src.size() < kMinimum || src.size() > kMaxBuffer ||
      dst.size() < src.size())
    return {0, "it is too short for AES-XTS"};
  thread_local const std::unique_ptr<EVP_CIPHER_CTX, FreeContext> context(
      EVP_CIPHER_CTX_new());
  auto* out = reinterpret_cast<unsigned char*>(dst.data());
  int length = 0;
  int rest = 0;
  if (context == nullptr ||
      EVP_DecryptInit_ex(
          context.get(), EVP_aes_128_xts(), nullptr,
          reinterpret_cast<const unsigned char*>(key.key.data()),
          reinterpret_cast<const unsigned char*>(key.iv.data())) != 1)
    throw std::bad_alloc();
  if (EVP_DecryptUpdate(context.get(), out, &length,
                        reinterpret_cast<const unsigned char*>(src.data()),
                        static_cast<int>(src.size())) != 1 ||
      EVP_DecryptFinal_ex(context.get(), out + length, &rest) != 1)
    return {0, "it cannot be decrypted"};
  return {withoutPadding(dst.first(static_cast<size_t>(length + rest)))};
}

}  // namespace nydus::codec

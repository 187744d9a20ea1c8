#include "codec/digest.h"

#include <openssl/evp.h>

#include <memory>
#include <new>

#include <blake3.h>

namespace nydus::codec {
namespace {

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
struct FreeAlgorithm {
  void operator()(EVP_MD* algorithm) const { EVP_MD_free(algorithm); }
};

// Fetched once: looking it up for each chunk takes longer than a small chunk.
const EVP_MD* sha256Algorithm() {
  static const std::unique_ptr<EVP_MD, FreeAlgorithm> algorithm(
      EVP_MD_fetch(nullptr, "SHA256", nullptr));
  return algorithm.get();
}

void sha256(Source bytes, DigestTarget into) {
  thread_local const std::unique_ptr<EVP_MD_CTX, FreeContext> context(
      EVP_MD_CTX_new());
  auto* out = reinterpret_cast<unsigned char*>(into.data());
  if (context == nullptr ||
      EVP_DigestInit_ex(context.get(), sha256Algorithm(), nullptr) != 1 ||
      EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()) != 1 ||
      EVP_DigestFinal_ex(context.get(), out, nullptr) != 1)
    throw std::bad_alloc();
}

void blake3(Source bytes, DigestTarget into) {
  blake3_hasher hasher;
  blake3_hasher_init(&hasher);
  blake3_hasher_update(&hasher, bytes.data(), bytes.size());
  blake3_hasher_finalize(&hasher, reinterpret_cast<uint8_t*>(into.data()),
                         into.size());
}

}  // namespace

void digest(Digester digester, Source bytes, DigestTarget into) {
  if (digester == Digester::kSha256)
    sha256(bytes, into);
  else
    blake3(bytes, into);
}

}  // namespace nydus::codec

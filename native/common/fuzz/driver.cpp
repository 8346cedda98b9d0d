// Runs a fuzz target without libFuzzer: deterministic mutations of a corpus, in any build of any compiler.
//
//   fuzz-NAME [--seed N] [--iterations N] [--seconds S] [--max-bytes N] [FILE | FOLDER]...
//
// First every file of the corpus (or the target's own seeds) is run as it is, then mutations of them, until
// the iterations or the seconds are over (10,000 iterations unless told). An input that crashes, aborts or
// runs for more than ten seconds is written to fuzz-failure.bin; `--iterations 0 fuzz-failure.bin` runs it
// again.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

#include "native/common/fuzz/fuzz.hpp"
#include "native/common/fuzz/mutate.hpp"

extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

namespace {

using namespace aliquot::fuzz;
using Clock = std::chrono::steady_clock;

struct Options {
  std::uint64_t seed = 1;
  std::uint64_t iterations = 10000;
  double seconds = 0;
  std::size_t most_bytes = 1 << 16;
  std::vector<std::string> paths;
};

constexpr unsigned kWatchdogSeconds = 10;

// The input under way, for the handlers.
const char* g_input = nullptr;
std::size_t g_size = 0;

// Async-signal-safe.
void save_input() {
  if (!g_input)
    return;
  const int file = open("fuzz-failure.bin", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const bool saved = file >= 0 && write(file, g_input, g_size) == static_cast<ssize_t>(g_size);
  constexpr char kSaved[] = "fuzz: the input is in fuzz-failure.bin\n";
  constexpr char kLost[] = "fuzz: the input could not be saved\n";
  [[maybe_unused]] const ssize_t told =
      saved ? write(STDERR_FILENO, kSaved, sizeof kSaved - 1) : write(STDERR_FILENO, kLost, sizeof kLost - 1);
  g_input = nullptr;
}

void on_signal(int number) {
  save_input();
  signal(number, SIG_DFL);
  raise(number);
}

void install_handlers() {
  if (__sanitizer_set_death_callback) {
    __sanitizer_set_death_callback(save_input);
    signal(SIGABRT, on_signal);
  } else {
    for (const int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT})
      signal(number, on_signal);
  }
  signal(SIGALRM, on_signal);
}

// On an exact copy, so that a sanitizer sees a read past the end.
void run_one(const std::string& input) {
  const std::unique_ptr<char[]> copy(new char[input.size()]);
  std::memcpy(copy.get(), input.data(), input.size());
  g_input = copy.get();
  g_size = input.size();
  alarm(kWatchdogSeconds);
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(copy.get()), input.size());
  alarm(0);
  g_input = nullptr;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> load_corpus(const Options& options) {
  std::vector<std::filesystem::path> files;
  for (const std::string& path : options.paths) {
    if (!std::filesystem::is_directory(path)) {
      files.emplace_back(path);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(path))
      if (entry.is_regular_file())
        files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end()); // the order of a folder is the file system's whim
  std::vector<std::string> corpus;
  for (const auto& file : files)
    corpus.push_back(read_file(file));
  if (corpus.empty())
    for (const std::string_view seed : seeds())
      corpus.emplace_back(seed);
  return corpus;
}

Options options_of(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string word = arguments[i];
    const bool has_value = i + 1 < count;
    if (word == "--seed" && has_value)
      options.seed = std::stoull(arguments[++i]);
    else if (word == "--iterations" && has_value)
      options.iterations = std::stoull(arguments[++i]);
    else if (word == "--seconds" && has_value)
      options.seconds = std::stod(arguments[++i]);
    else if (word == "--max-bytes" && has_value)
      options.most_bytes = std::stoull(arguments[++i]);
    else if (word.starts_with("--"))
      throw std::invalid_argument("unknown option " + word);
    else
      options.paths.push_back(word);
  }
  return options;
}

void run(const Options& options) {
  const std::vector<std::string> corpus = load_corpus(options);
  for (const std::string& input : corpus)
    run_one(input);
  Random random(options.seed);
  const std::vector<std::string_view> vocabulary = words();
  Mutator mutator(random, corpus, vocabulary, options.most_bytes);
  const auto start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  std::uint64_t done = 0;
  while (options.seconds > 0 ? elapsed() < options.seconds : done < options.iterations) {
    run_one(mutator.make());
    ++done;
  }
  std::printf("fuzz: %zu inputs of the corpus, %llu mutations, seed %llu, %.1f s\n", corpus.size(),
              static_cast<unsigned long long>(done), static_cast<unsigned long long>(options.seed),
              elapsed());
}

} // namespace

int main(int count, char** arguments) {
  try {
    const Options options = options_of(count, arguments);
    install_handlers();
    run(options);
    return 0;
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "fuzz: %s\n", failure.what());
    return 2;
  }
}

// Another library that limits memory, made the way that is common: it stands in for dlsym, keeps one total
// for all processes in a mapped file behind one process-shared mutex, and asks the system for its pid at each
// call. The benchmark of the limiter is to measure such a library beside ours. It keeps its word: what it
// counts is exact as long as nobody is killed.
//
// OTHER_REGION names the file, OTHER_LIMIT is in bytes.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, PLACES = 1 << 18 };

typedef void* Dlsym(void*, const char*);
typedef int Init(unsigned);
typedef int Allocate(uint64_t*, size_t);
typedef int Free(uint64_t);
typedef int Info(size_t*, size_t*);
typedef int Launch(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**,
                   void**);

// What the processes share; the test reads it.
struct Region {
  uint64_t made, used, limit, allocations, launches, last_pid;
  pthread_mutex_t mutex;
};

static struct Region* region;
static Init* real_init;
static Allocate* real_allocate;
static Free* real_free;
static Info* real_info;
static Launch* real_launch;
static struct {
  uint64_t address, bytes;
} held[PLACES]; // of this process, open addressing; freed ones keep their address, and are used again

static void open_region(void) {
  int file = open(getenv("OTHER_REGION"), O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, sizeof *region) != 0)
    abort();
  region = mmap(NULL, sizeof *region, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (__sync_bool_compare_and_swap(&region->made, 0, 1)) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&region->mutex, &attributes);
    region->limit = strtoull(getenv("OTHER_LIMIT"), NULL, 10);
    __sync_synchronize();
    region->made = 2;
  }
  while (*(volatile uint64_t*)&region->made != 2)
    usleep(100);
}

static void enter(void) {
  pthread_mutex_lock(&region->mutex);
  region->last_pid = (uint64_t)getpid();
}

static int leave(int answer) {
  pthread_mutex_unlock(&region->mutex);
  return answer;
}

static uint64_t* place_of(uint64_t address, int free_one) {
  uint64_t at = address * 0x9E3779B97F4A7C15u >> 46;
  while (held[at].address != address && !(free_one && held[at].bytes == 0))
    at = (at + 1) % PLACES;
  held[at].address = address;
  return &held[at].bytes;
}

static int init(unsigned flags) {
  open_region();
  return real_init(flags);
}

static int allocate(uint64_t* address, size_t bytes) {
  enter();
  if (region->used + bytes > region->limit)
    return leave(OUT_OF_MEMORY);
  int answer = real_allocate(address, bytes);
  if (answer != SUCCESS)
    return leave(answer);
  *place_of(*address, 1) = bytes;
  region->used += bytes;
  ++region->allocations;
  return leave(SUCCESS);
}

static int release(uint64_t address) {
  enter();
  int answer = real_free(address);
  if (answer != SUCCESS)
    return leave(answer);
  uint64_t* bytes = place_of(address, 0);
  region->used -= *bytes;
  *bytes = 0;
  return leave(SUCCESS);
}

static int info(size_t* free, size_t* total) {
  int answer = real_info(free, total);
  if (answer != SUCCESS)
    return answer;
  enter();
  *total = region->limit;
  *free = region->limit - region->used;
  return leave(SUCCESS);
}

static int launch(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                  unsigned bz, unsigned shared, void* stream, void** parameters, void** extra) {
  __sync_fetch_and_add(&region->launches, 1);
  return real_launch(function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra);
}

void* dlsym(void* handle, const char* name) {
  static Dlsym* real;
  static const char* const versions[] = {"GLIBC_2.2.5", "GLIBC_2.17", "GLIBC_2.34"};
  for (unsigned i = 0; real == NULL && i < sizeof versions / sizeof *versions; ++i)
    real = (Dlsym*)dlvsym(RTLD_NEXT, "dlsym", versions[i]);
  const struct {
    const char* name;
    void* ours;
    void** theirs;
  } hooks[] = {
      {"cuInit", (void*)init, (void**)&real_init},
      {"cuMemAlloc_v2", (void*)allocate, (void**)&real_allocate},
      {"cuMemFree_v2", (void*)release, (void**)&real_free},
      {"cuMemGetInfo_v2", (void*)info, (void**)&real_info},
      {"cuLaunchKernel", (void*)launch, (void**)&real_launch},
  };
  void* found = real(handle, name);
  for (unsigned i = 0; found != NULL && i < sizeof hooks / sizeof *hooks; ++i) {
    if (strcmp(hooks[i].name, name) == 0) {
      *hooks[i].theirs = found;
      return hooks[i].ours;
    }
  }
  return found;
}

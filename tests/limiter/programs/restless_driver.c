// The driver of odd_driver.c, which while it starts initialises itself again: by way of the loader, so that
// whoever is preloaded gets these calls, in this thread and, while it waits for it, in another one.
#define cuInit first_init
#include "odd_driver.c"
#undef cuInit

#include <pthread.h>

CUresult cuInit(unsigned flags);
static int depth;

static void* elsewhere(void* answer) {
  *(CUresult*)answer = cuInit(0);
  return NULL;
}

CUresult cuInit(unsigned flags) {
  int version = 0, status = 0;
  CUresult other = -1;
  void* function = NULL;
  pthread_t thread;
  if (depth++ != 0)
    return first_init(flags);
  if (cuInit(0) || cuDriverGetVersion(&version) || version != 14000)
    return 998;
  if (cuGetProcAddress_v2("cuMemAlloc", &function, 13000, 0, &status) || function == NULL)
    return 997;
  if (pthread_create(&thread, NULL, elsewhere, &other) || pthread_join(thread, NULL) || other)
    return 996;
  return first_init(flags);
}

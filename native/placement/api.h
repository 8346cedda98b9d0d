/* The C interface of the numeric core, which aliquot.placement.packing.compiled calls. Every call says by its
   result whether it succeeded; none lets an exception out. Handles are used by one thread at a time. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ALIQUOT_PLACEMENT_ABI 1

enum {
  ALIQUOT_PLACEMENT_DONE = 0,
  ALIQUOT_PLACEMENT_DOES_NOT_FIT = 1,
  ALIQUOT_PLACEMENT_INVALID = 2,
  ALIQUOT_PLACEMENT_NO_MEMORY = 3,
};

typedef struct aliquot_cluster aliquot_cluster;
typedef struct aliquot_scorer aliquot_scorer;

/* A device of one model: capacity, what is free, or what is asked of it. */
typedef struct {
  int32_t model;
  int32_t milli;
  int32_t vram;
} aliquot_amounts;

typedef struct {
  uint32_t node; /* 0xffffffff: none fits */
  uint32_t padding;
  uint64_t devices; /* a bit each */
  double score;
} aliquot_choice;

/* A demand and a number that goes with it: a frequency, a worth. */
typedef struct {
  uint32_t demand;
  uint32_t padding;
  double number;
} aliquot_weighted_demand;

typedef struct {
  const uint32_t* drawn; /* sequences times length demands */
  uint32_t sequences;
  uint32_t length;
  const aliquot_weighted_demand* typical;
  uint32_t typical_count;
  uint32_t host_count;
  const aliquot_weighted_demand* hosts;
} aliquot_outlook;

uint32_t aliquot_placement_abi(void);
aliquot_cluster* aliquot_cluster_new(void);
aliquot_cluster* aliquot_cluster_copy(const aliquot_cluster* cluster);
void aliquot_cluster_delete(aliquot_cluster* cluster);
int aliquot_cluster_add_node(aliquot_cluster* cluster, int32_t cpu, int32_t memory,
                             const aliquot_amounts* devices, uint32_t device_count);
/* Gives the demand's number: equal demands have the same. */
int aliquot_cluster_demand(aliquot_cluster* cluster, int32_t cpu, int32_t memory, int32_t count,
                           const aliquot_amounts* shares, uint32_t share_count, uint32_t* number);
int aliquot_cluster_take(aliquot_cluster* cluster, uint32_t demand, uint32_t node, uint64_t devices);
int aliquot_cluster_give(aliquot_cluster* cluster, uint32_t demand, uint32_t node, uint64_t devices);
int aliquot_cluster_free(const aliquot_cluster* cluster, uint32_t node, int32_t* cpu, int32_t* memory,
                         aliquot_amounts* devices, uint32_t device_count);
/* One byte a node: whether the demand fits. Masks may be null. */
int aliquot_cluster_feasible(const aliquot_cluster* cluster, uint32_t demand, const uint8_t* nodes,
                             const uint8_t* devices, uint8_t* fits);

/* `terms` and `weights` as native/placement/terms.hpp numbers them. The cluster must outlive the scorer. */
aliquot_scorer* aliquot_scorer_new(aliquot_cluster* cluster, const int32_t* terms, const double* weights,
                                   uint32_t term_count, int32_t devices, uint64_t seed);
/* The same scores for another cluster, which must be a copy of the first's. */
aliquot_scorer* aliquot_scorer_on(const aliquot_scorer* scorer, aliquot_cluster* copy);
void aliquot_scorer_delete(aliquot_scorer* scorer);
int aliquot_scorer_outlook(aliquot_scorer* scorer, const aliquot_outlook* outlook);
int aliquot_scorer_choose(aliquot_scorer* scorer, uint32_t demand, const uint8_t* nodes,
                          const uint8_t* devices, aliquot_choice* choice);
/* choose and take in one. */
int aliquot_scorer_place(aliquot_scorer* scorer, uint32_t demand, aliquot_choice* choice);
/* At most `most` choices, the best first; `count` says how many there are. */
int aliquot_scorer_choices(aliquot_scorer* scorer, uint32_t demand, const uint8_t* nodes,
                           const uint8_t* devices, aliquot_choice* choices, uint32_t most, uint32_t* count);
/* Of one choice, the value of each term times its weight. */
int aliquot_scorer_explain(aliquot_scorer* scorer, uint32_t demand, const aliquot_choice* choice,
                           double* terms);
/* Free thousandths of devices that a typical claim cannot use, on average over the outlook's typical claims;
   0 with no outlook. */
int aliquot_scorer_fragmentation(aliquot_scorer* scorer, double* milli);
/* How often sequences had to be run, since the outlook was set. */
uint64_t aliquot_scorer_runs(const aliquot_scorer* scorer);

#ifdef __cplusplus
}
#endif

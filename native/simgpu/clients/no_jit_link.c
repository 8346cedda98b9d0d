/* libnvJitLink.so.13 without a function in it, preloaded into programs on simulated cards.
 *
 * nvJitLink turns PTX into machine code, which a simulated card cannot run. cuda-pathfinder, which numba-cuda
 * and cuda.core ask for the library, takes one that is loaded under its name already before it looks into
 * Python packages; finding no function in it, both link through the driver (cuLink*), which takes PTX. See
 * docs/clients.md.
 */
typedef int aliquot_nothing;

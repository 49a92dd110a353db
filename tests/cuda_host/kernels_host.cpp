/* Runs kernels on the host: blocks one after another, a block's threads as fibers that switch where
 * they wait for each other (a barrier, a warp primitive), else one after another on one stack.
 *
 * Who waits in vain is a bug of the kernel: a barrier that some threads never reach, lanes of a
 * mask that ended or wait elsewhere. It is said with the kernel's name and the process aborts. */
#include "cuda_host.h"
#include "cuda_runtime.h"

#include <dlfcn.h>
#include <mutex>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef __x86_64__
#include <ucontext.h>
#endif

dim3 gridDim, blockDim;
uint3 blockIdx, threadIdx;

extern "C" unsigned char __start_rp_shared[], __stop_rp_shared[];
/* Makes the section exist where no kernel has static shared memory. */
static __attribute__((section("rp_shared"), used)) unsigned char no_shared;

namespace
{

enum { MAX_THREADS = 1024, PAGE = 4096, STACK = 256 << 10 };
/* So many have room for the most registers that a kernel can have. */
enum { REGISTERS = 65536, SURE_THREADS = REGISTERS / 256 };
/* What the smallest GPU that is built for gives a block, and whole pages of it. */
enum { MAX_SHARED = 163 << 10, SHARED_PAGES = 164 << 10 };

/* ---- Fibers ---- */

struct fiber {
    void *stack_top; /* where its registers lie while it does not run */
#ifndef __x86_64__
    ucontext_t context;
#endif
};

#ifdef __x86_64__
extern "C" void rp_host_switch(void **from, void *to);
__asm__(".text\n"
        ".type rp_host_switch, @function\n"
        "rp_host_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n"
        "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n"
        "    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size rp_host_switch, . - rp_host_switch\n");

void prepare(fiber *made, unsigned char *stack, void (*entry)())
{
    void **const top = reinterpret_cast<void **>(stack + STACK) - 8;

    memset(top, 0, 8 * sizeof(*top));
    memcpy(top + 6, &entry, sizeof(entry)); /* returned to; the stack is then as after a call */
    made->stack_top = top;
}

void switch_fiber(fiber *from, fiber *to)
{
    rp_host_switch(&from->stack_top, to->stack_top);
}
#else
void prepare(fiber *made, unsigned char *stack, void (*entry)())
{
    getcontext(&made->context);
    made->context.uc_stack.ss_sp = stack;
    made->context.uc_stack.ss_size = STACK;
    makecontext(&made->context, entry, 0);
}

void switch_fiber(fiber *from, fiber *to)
{
    swapcontext(&from->context, &to->context);
}
#endif

/* ---- The block that runs ---- */

enum wait_kind { IS_RUNNING, AT_BARRIER, AT_WARP, HAS_LEFT };

struct thread_state {
    uint3 index;
    wait_kind kind;
    rp_host_place place;
    unsigned mask;
    rp_host_exchange exchange;
    int source; /* lane */
    uint64_t value, result;
    fiber *on;
};

struct block_state {
    const rp_host_kernel *kernel;
    int n, n_started, n_left, n_at_barrier, n_counted, count;
    int current;
    unsigned at_warp[MAX_THREADS / 32]; /* lanes that wait in a warp primitive */
    thread_state threads[MAX_THREADS];
    int runnable[MAX_THREADS]; /* ring of threads that may go on */
    int runnable_first, n_runnable;
    unsigned char *dynamic_shared;
};

block_state block;
fiber main_fiber, *running;
fiber fibers[MAX_THREADS], *idle_fibers[MAX_THREADS];
int n_fibers, n_idle_fibers;
unsigned char *shared_pages; /* SHARED_PAGES bytes, then a page that nobody may touch */
std::mutex one_kernel;

const char *kernel_name(const rp_host_kernel *kernel)
{
    static char name[256];
    char command[512];
    Dl_info where = {};
    FILE *pipe;

    snprintf(name, sizeof(name), "kernel at %p", kernel->address);
    if (dladdr(kernel->address, &where) == 0) {
        return name;
    }
    snprintf(command, sizeof(command), "addr2line -fCse /proc/%d/exe %#tx 2>/dev/null",
             (int)getpid(),
             static_cast<const char *>(kernel->address) - static_cast<char *>(where.dli_fbase));
    pipe = popen(command, "r");
    if (pipe != nullptr) {
        if (fgets(name, sizeof(name), pipe) != nullptr) {
            name[strcspn(name, "\n")] = '\0';
        }
        pclose(pipe);
    }
    return name;
}

#define RP_KERNEL_BUG(fmt, ...)                                                                    \
    rp_host_die("%s, block (%u, %u, %u): " fmt, kernel_name(block.kernel), blockIdx.x, blockIdx.y, \
                blockIdx.z, __VA_ARGS__)

/* Nobody can go on: says who waits where, one line for each place. */
[[noreturn]] void report_stuck()
{
    char text[1024];
    size_t used = 0;

    for (int t = 0; t < block.n; t++) {
        const thread_state *const first = &block.threads[t];
        int n_same = 0;
        bool is_new = true;
        for (int o = 0; o < block.n; o++) {
            const bool is_same = block.threads[o].kind == first->kind &&
                                 block.threads[o].place.line == first->place.line &&
                                 block.threads[o].mask == first->mask;
            is_new = is_new && !(is_same && o < t);
            n_same += is_same;
        }
        if (is_new && used < sizeof(text)) {
            used += (size_t)snprintf(text + used, sizeof(text) - used,
                                     "%s%d (thread %d first) %s %s", used ? "; " : "", n_same, t,
                                     first->kind == HAS_LEFT ? "ended" : "wait in",
                                     first->kind == HAS_LEFT ? "" : first->place.what);
        }
        if (is_new && used < sizeof(text) && first->kind != HAS_LEFT) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, " %s:%d mask %#x",
                                     first->place.file, first->place.line, first->mask);
        }
    }
    RP_KERNEL_BUG("divergent: of %d threads %s", block.n, text);
}

void fiber_main();

fiber *take_idle_fiber()
{
    if (n_idle_fibers > 0) {
        return idle_fibers[--n_idle_fibers];
    }
    void *const stack = mmap(nullptr, PAGE + STACK, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED || mprotect(stack, PAGE, PROT_NONE) != 0) {
        rp_host_die("no memory for stacks");
    }
    prepare(&fibers[n_fibers], static_cast<unsigned char *>(stack) + PAGE, fiber_main);
    return &fibers[n_fibers++];
}

/* From a fiber whose thread waits or which has nothing to run, to one that can go on. */
void go_on()
{
    fiber *const from = running;

    if (block.n_runnable > 0) {
        running = block.threads[block.runnable[block.runnable_first]].on;
        block.current = block.runnable[block.runnable_first];
        block.runnable_first = (block.runnable_first + 1) % MAX_THREADS;
        block.n_runnable--;
    } else if (block.n_started < block.n) {
        running = take_idle_fiber();
    } else if (block.n_left == block.n) {
        running = &main_fiber;
    } else {
        report_stuck();
    }
    if (running != from) {
        switch_fiber(from, running);
    }
}

void fiber_main()
{
    for (;;) {
        while (block.n_started < block.n) {
            const int nth = block.n_started++;
            block.current = rp_host_get_settings()->is_downward ? block.n - 1 - nth : nth;
            threadIdx = block.threads[block.current].index;
            block.kernel->call();
            block.threads[block.current].kind = HAS_LEFT;
            block.threads[block.current].place = {};
            block.threads[block.current].mask = 0;
            block.n_left++;
        }
        idle_fibers[n_idle_fibers++] = running;
        go_on();
    }
}

/* The current thread waits until somebody wakes it. */
void wait_here()
{
    const int self = block.current;

    block.threads[self].on = running;
    go_on();
    block.current = self;
    threadIdx = block.threads[self].index;
}

void wake(int thread)
{
    block.threads[thread].kind = IS_RUNNING;
    block.runnable[(block.runnable_first + block.n_runnable) % MAX_THREADS] = thread;
    block.n_runnable++;
}

void meet_barrier(rp_host_place place)
{
    thread_state *const self = &block.threads[block.current];

    if (block.n_at_barrier + 1 < block.n) {
        block.n_at_barrier++;
        self->kind = AT_BARRIER;
        self->place = place;
        self->mask = 0;
        wait_here();
        return;
    }
    for (int t = 0; t < block.n; t++) {
        const thread_state *const other = &block.threads[t];
        if (t != block.current && other->place.line != place.line) {
            RP_KERNEL_BUG("divergent: thread %d waits in %s %s:%d, thread %d in %s:%d",
                          block.current, place.what, place.file, place.line, t, other->place.what,
                          other->place.line);
        }
    }
    block.n_at_barrier = 0;
    block.count = block.n_counted;
    block.n_counted = 0;
    for (int nth = 0; nth < block.n; nth++) {
        const int t = rp_host_get_settings()->is_downward ? block.n - 1 - nth : nth;
        if (t != block.current) {
            wake(t);
        }
    }
}

bool has_met(const thread_state *warp, unsigned mask, const thread_state *self)
{
    for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
        const thread_state *const other = &warp[__builtin_ctz(rest)];
        if (other->mask != mask || other->exchange != self->exchange ||
            other->place.line != self->place.line) {
            return false;
        }
    }
    return true;
}

/* What every lane of the mask gets. */
void exchange_values(thread_state *warp, unsigned mask, rp_host_exchange exchange)
{
    uint64_t ballot = 0;

    for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
        ballot |= warp[__builtin_ctz(rest)].value << __builtin_ctz(rest);
    }
    for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
        thread_state *const lane = &warp[__builtin_ctz(rest)];
        if (exchange == RP_HOST_TAKE && (mask >> lane->source & 1U) == 0) {
            RP_KERNEL_BUG("%s %s:%d: lane %d reads lane %d, which is not in mask %#x",
                          lane->place.what, lane->place.file, lane->place.line, __builtin_ctz(rest),
                          lane->source, mask);
        }
        lane->result = exchange == RP_HOST_BALLOT ? ballot : warp[lane->source].value;
    }
}

} // namespace

void *rp_host_dynamic_shared(void)
{
    return block.dynamic_shared;
}

int rp_host_lane(void)
{
    return block.current % 32;
}

void rp_host_barrier(rp_host_place place)
{
    meet_barrier(place);
}

int rp_host_barrier_count(rp_host_place place, bool is_counted)
{
    block.n_counted += is_counted;
    meet_barrier(place);
    return block.count; /* nobody passes the next barrier before all have read it */
}

uint64_t rp_host_meet(rp_host_place place, unsigned mask, rp_host_exchange exchange, uint64_t value,
                      int source)
{
    const int lane = block.current % 32, first = block.current - lane;
    const int n_lanes = block.n - first < 32 ? block.n - first : 32;
    thread_state *const warp = &block.threads[first], *const self = &warp[lane];
    unsigned *const at_warp = &block.at_warp[first / 32];

    if ((mask >> lane & 1U) == 0 || (n_lanes < 32 && mask >> n_lanes != 0)) {
        RP_KERNEL_BUG("%s %s:%d: mask %#x is wrong for lane %d of a warp of %d", place.what,
                      place.file, place.line, mask, lane, n_lanes);
    }
    self->kind = AT_WARP;
    self->place = place;
    self->mask = mask;
    self->exchange = exchange;
    self->value = value;
    self->source = source;
    *at_warp |= 1U << lane;
    if ((*at_warp & mask) != mask || !has_met(warp, mask, self)) {
        wait_here();
        return self->result;
    }
    exchange_values(warp, mask, exchange);
    *at_warp &= ~mask;
    for (unsigned rest = mask & ~(1U << lane); rest != 0; rest &= rest - 1) {
        wake(first + __builtin_ctz(rest));
    }
    self->kind = IS_RUNNING;
    return self->result;
}

/* ---- Launches ---- */

namespace
{

bool is_valid(const cudaLaunchConfig_t *config)
{
    const dim3 g = config->gridDim, b = config->blockDim;

    return g.x > 0 && g.y > 0 && g.z > 0 && g.x <= 0x7fffffffU && g.y <= 65535 && g.z <= 65535 &&
           b.x > 0 && b.y > 0 && b.z > 0 && b.x <= 1024 && b.y <= 1024 && b.z <= 64 &&
           (uint64_t)b.x * b.y * b.z <= MAX_THREADS && config->dynamicSmemBytes <= MAX_SHARED;
}

void set_up_block(const cudaLaunchConfig_t *config, const rp_host_kernel *kernel)
{
    const dim3 b = config->blockDim;

    block.kernel = kernel;
    block.n = (int)(b.x * b.y * b.z);
    for (unsigned t = 0; t < (unsigned)block.n; t++) {
        block.threads[t].index = {t % b.x, t / b.x % b.y, t / b.x / b.y};
    }
    if (shared_pages == nullptr) {
        void *const pages = mmap(nullptr, SHARED_PAGES + PAGE, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED ||
            mprotect(static_cast<unsigned char *>(pages) + SHARED_PAGES, PAGE, PROT_NONE) != 0) {
            rp_host_die("no memory for shared memory");
        }
        shared_pages = static_cast<unsigned char *>(pages);
    }
    block.dynamic_shared =
        shared_pages + (SHARED_PAGES - (config->dynamicSmemBytes + 15) / 16 * 16);
}

void run_block()
{
    memset(__start_rp_shared, 0xff, (size_t)(__stop_rp_shared - __start_rp_shared));
    memset(block.dynamic_shared, 0xff,
           (size_t)(shared_pages + SHARED_PAGES - block.dynamic_shared));
    memset(block.at_warp, 0, sizeof(block.at_warp));
    block.n_started = block.n_left = block.n_at_barrier = block.n_counted = 0;
    block.runnable_first = block.n_runnable = 0;
    running = &main_fiber;
    go_on();
}

void run_grid(const cudaLaunchConfig_t *config, const rp_host_kernel *kernel)
{
    const std::lock_guard<std::mutex> locked(one_kernel);
    const dim3 g = config->gridDim;
    const uint64_t n_blocks = (uint64_t)g.x * g.y * g.z;

    gridDim = config->gridDim;
    blockDim = config->blockDim;
    set_up_block(config, kernel);
    for (uint64_t nth = 0; nth < n_blocks; nth++) {
        const uint64_t b = rp_host_get_settings()->is_downward ? n_blocks - 1 - nth : nth;
        blockIdx = {(unsigned)(b % g.x), (unsigned)(b / g.x % g.y), (unsigned)(b / g.x / g.y)};
        run_block();
    }
}

} // namespace

cudaError_t rp_host_launch(const cudaLaunchConfig_t &config, const rp_host_kernel &kernel)
{
    if (config.stream == nullptr) {
        rp_host_die("%s is launched on the default stream", kernel_name(&kernel));
    }
    if (!is_valid(&config)) {
        return cudaErrorInvalidConfiguration;
    }
    if (config.blockDim.x * config.blockDim.y * config.blockDim.z > SURE_THREADS) {
        return cudaErrorLaunchOutOfResources;
    }
    if (rp_host_call_fails()) {
        return cudaErrorLaunchFailure;
    }
    rp_host_ask(config.stream, [config, kernel]() { run_grid(&config, &kernel); });
    return cudaSuccess;
}

cudaError_t rp_host_set_attribute(const void *kernel, cudaFuncAttribute attribute, int value)
{
    (void)kernel;
    return attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value >= 0 &&
                   value <= MAX_SHARED
               ? cudaSuccess
               : cudaErrorInvalidValue;
}

void rp_host_check_pointer(const rp_host_kernel *kernel, const void *pointer)
{
    if (pointer != nullptr && !rp_host_is_device(pointer, 1)) {
        rp_host_die("%s is given %p, which is not in this GPU's memory", kernel_name(kernel),
                    pointer);
    }
}

/* Words that are addresses of the program, its heap, libraries or stacks. */
void rp_host_check_bytes(const rp_host_kernel *kernel, const void *argument, size_t nbytes)
{
    for (size_t at = 0; at + sizeof(uint64_t) <= nbytes; at += sizeof(uint64_t)) {
        uint64_t word;
        unsigned char is_resident;
        memcpy(&word, static_cast<const unsigned char *>(argument) + at, sizeof(word));
        const uint64_t high = word >> 40;
        void *const page = reinterpret_cast<void *>(word & ~(uint64_t)(PAGE - 1));
        if ((high == 0x55 || high == 0x56 || high == 0x7e || high == 0x7f) &&
            mincore(page, PAGE, &is_resident) == 0) {
            rp_host_check_pointer(kernel, reinterpret_cast<void *>(word));
        }
    }
}

/* NCCL between the processes of an MPI launch. Every contribution is a message to each rank that
 * needs it; a poll looks for messages, and once all are there computes the results, in rank order,
 * and writes them to device memory. Nobody waits inside a call, and nothing is posted that an abort
 * would have to take back. */
#include "cuda_host.h"
#include "nccl.h"
#include "mpi/nccl_library.h"

#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <algorithm>
#include <mpi.h>
#include <mutex>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <unistd.h>
#include <vector>

namespace
{

/* A call says ncclInProgress for so many polls before its work is on the stream. */
constexpr int LAUNCH_POLLS = 2;

enum task_kind { BROADCAST, ALL_REDUCE, REDUCE, SEND, RECV, START };
/* Messages are of a start, of collectives, or of a pair. */
enum tag { TAG_START = 77, TAG_COLLECTIVE, TAG_PAIR };

/* Before the data of a message: both ends must mean the same. */
struct header {
    char id[NCCL_UNIQUE_ID_BYTES];
    int kind, type, op, root;
    long number;
    size_t count;
};

struct task {
    header what;
    const unsigned char *send;
    unsigned char *recv;
    std::vector<int> missing;                     /* ranks whose messages have not come */
    std::vector<std::vector<unsigned char>> data; /* [nranks] what they sent */
};

struct message {
    std::vector<unsigned char> bytes;
    MPI_Request request;
};

struct fault {
    char kind[16];
    int rank;
    long number;
};

} // namespace

struct ncclComm {
    int rank, nranks;
    ncclUniqueId id;
    long number; /* of groups and single calls */
    long n_collectives;
    int n_polls;   /* until the work is on the stream */
    bool is_stuck; /* nothing completes any more */
    bool is_dead;
    ncclResult_t error;
    std::vector<task> tasks; /* under way */
    std::vector<message *> sent;
};

namespace
{

/* Every function locks it: aborts come from another thread. */
std::recursive_mutex lock;
std::vector<ncclComm *> all_comms; /* never freed: nothing is forgotten that MPI may still read */
bool is_in_group;
std::vector<task> group;
ncclComm *group_comm;

fault read_fault()
{
    fault made = {"", -1, -1};
    const char *const text = getenv("RP_NCCL_HOST");

    if (text != nullptr && sscanf(text, "%15s %d %ld", made.kind, &made.rank, &made.number) != 3) {
        rp_host_die("RP_NCCL_HOST: what is %s?", text);
    }
    return made;
}

/* What goes wrong now on this rank, "" if nothing. */
const char *fault_of(const ncclComm *comm)
{
    static const fault made = read_fault();

    return made.rank == comm->rank && made.number == comm->number ? made.kind : "";
}

size_t bytes_of(const header &what)
{
    return what.count * (what.type == ncclUint8     ? 1
                         : what.type == ncclFloat32 ? sizeof(float)
                                                    : sizeof(uint64_t));
}

int tag_of(const header &what)
{
    if (what.kind == START) {
        return TAG_START;
    }
    return what.kind == SEND || what.kind == RECV ? TAG_PAIR : TAG_COLLECTIVE;
}

void send_to(ncclComm *comm, int rank, const header &what, const unsigned char *data)
{
    message *const made = new message;

    made->bytes.resize(sizeof(what) + bytes_of(what));
    memcpy(made->bytes.data(), &what, sizeof(what));
    if (bytes_of(what) > 0) {
        const rp_host_opened opened;
        memcpy(made->bytes.data() + sizeof(what), data, bytes_of(what));
    }
    MPI_Isend(made->bytes.data(), (int)made->bytes.size(), MPI_BYTE, rank, tag_of(what),
              MPI_COMM_WORLD, &made->request);
    comm->sent.push_back(made);
}

/* Sends what others need of a task, and notes whose data it needs itself. */
void begin_task(ncclComm *comm, task *t)
{
    const int kind = t->what.kind;
    const int root = t->what.root;
    const bool is_all = kind == ALL_REDUCE || kind == START;

    t->data.resize((size_t)comm->nranks);
    for (int r = 0; r < comm->nranks; r++) {
        const bool is_other = r != comm->rank;
        if (is_other && (is_all || (kind == BROADCAST && comm->rank == root) ||
                         ((kind == REDUCE || kind == SEND) && r == root))) {
            send_to(comm, r, t->what, t->send);
        }
        if (is_other && (is_all || ((kind == BROADCAST || kind == RECV) && r == root) ||
                         (kind == REDUCE && comm->rank == root))) {
            t->missing.push_back(r);
        }
    }
    t->data[(size_t)comm->rank].resize(bytes_of(t->what));
    if (t->send != nullptr && bytes_of(t->what) > 0) {
        const rp_host_opened opened;
        memcpy(t->data[(size_t)comm->rank].data(), t->send, bytes_of(t->what));
    }
}

/* The next message of a rank; false when there is none yet. Those of communicators that are gone
 * are thrown away. */
bool receive(ncclComm *comm, int rank, const header &want, std::vector<unsigned char> *data)
{
    int is_there = 0, nbytes = 0;
    MPI_Status status;
    header got;

    MPI_Iprobe(rank, tag_of(want), MPI_COMM_WORLD, &is_there, &status);
    if (is_there == 0) {
        return false;
    }
    MPI_Get_count(&status, MPI_BYTE, &nbytes);
    std::vector<unsigned char> bytes((size_t)nbytes);
    MPI_Recv(bytes.data(), nbytes, MPI_BYTE, rank, tag_of(want), MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    memcpy(&got, bytes.data(), sizeof(got));
    if (memcmp(got.id, want.id, sizeof(got.id)) != 0) {
        return false;
    }
    const bool is_pair = want.kind == RECV;
    if (got.kind != (is_pair ? SEND : want.kind) || got.type != want.type || got.op != want.op ||
        got.count != want.count ||
        (!is_pair && (got.root != want.root || got.number != want.number))) {
        rp_host_die(
            "rank %d expects kind %d of %zu in call %ld, rank %d sent kind %d of %zu in %ld",
            comm->rank, want.kind, want.count, want.number, rank, got.kind, got.count, got.number);
    }
    data->assign(bytes.begin() + sizeof(got), bytes.end());
    return true;
}

template <typename T>
void combine(unsigned char *out, const unsigned char *in, size_t count, int op)
{
    for (size_t i = 0; i < count; i++) {
        T a, b;
        memcpy(&a, out + i * sizeof(T), sizeof(T));
        memcpy(&b, in + i * sizeof(T), sizeof(T));
        a = op == ncclSum ? (T)(a + b) : std::max(a, b);
        memcpy(out + i * sizeof(T), &a, sizeof(T));
    }
}

void end_task(const ncclComm *comm, task *t)
{
    const int kind = t->what.kind;
    std::vector<unsigned char> *result =
        &t->data[kind == ALL_REDUCE || kind == REDUCE ? 0 : (size_t)t->what.root];

    if (kind == START || kind == SEND || (kind == REDUCE && comm->rank != t->what.root)) {
        return;
    }
    if (kind == ALL_REDUCE || kind == REDUCE) {
        for (size_t r = 1; r < t->data.size(); r++) {
            if (t->what.type == ncclFloat32) {
                combine<float>(result->data(), t->data[r].data(), t->what.count, t->what.op);
            } else {
                combine<uint64_t>(result->data(), t->data[r].data(), t->what.count, t->what.op);
            }
        }
    }
    if (!result->empty()) {
        const rp_host_opened opened;
        memcpy(t->recv, result->data(), result->size());
    }
}

/* Pairs' messages must be taken in the order of the calls: a task waits for those before it that
 * want the same rank's. */
void progress(ncclComm *comm)
{
    for (message *m : comm->sent) {
        int is_done = 0;
        if (m->request != MPI_REQUEST_NULL) {
            MPI_Test(&m->request, &is_done, MPI_STATUS_IGNORE);
        }
    }
    if (comm->is_stuck || comm->n_polls > 0) {
        return;
    }
    std::vector<bool> is_awaited((size_t)comm->nranks * 2);
    bool is_done = true;
    for (task &t : comm->tasks) {
        std::vector<int> missing;
        for (const int r : t.missing) {
            const size_t queue = (size_t)r * 2 + (tag_of(t.what) == TAG_PAIR);
            if (is_awaited[queue] || !receive(comm, r, t.what, &t.data[(size_t)r])) {
                is_awaited[queue] = true;
                missing.push_back(r);
            }
        }
        t.missing = missing;
        is_done = is_done && missing.empty();
    }
    if (is_done) {
        for (task &t : comm->tasks) {
            end_task(comm, &t);
        }
        comm->tasks.clear();
    }
}

/* Of the CUDA stand-in's streams. */
bool is_busy()
{
    const std::lock_guard<std::recursive_mutex> locked(lock);
    bool any = false;

    for (ncclComm *comm : all_comms) {
        if (!comm->is_dead) {
            progress(comm);
            any = any || comm->is_stuck || !comm->tasks.empty();
        }
    }
    return any;
}

/* A group or a single call. */
ncclResult_t issue(ncclComm *comm, std::vector<task> tasks)
{
    if (comm->is_dead || comm->error != ncclSuccess || comm->n_polls > 0 || !comm->tasks.empty()) {
        rp_host_die("a call on a communicator that has failed, is gone or has not been waited for");
    }
    comm->number++;
    const std::string kind = fault_of(comm);
    if (kind == "die") {
        _exit(9);
    }
    while (kind == "stick") {
        pause();
    }
    if (kind == "call") {
        comm->error = ncclInternalError;
        return ncclInternalError;
    }
    comm->n_polls = LAUNCH_POLLS;
    comm->is_stuck = comm->is_stuck || kind == "hang" || kind == "error";
    comm->error = kind == "error" ? ncclSystemError : ncclSuccess;
    for (task &t : tasks) {
        t.what.number = tag_of(t.what) == TAG_COLLECTIVE ? ++comm->n_collectives : 0;
        if (!comm->is_stuck) {
            begin_task(comm, &t);
        }
        comm->tasks.push_back(t);
    }
    return ncclInProgress;
}

task task_of(ncclComm_t comm, task_kind kind, const void *send, void *recv, size_t count, int type,
             int op, int root)
{
    task made;

    memset(&made.what, 0, sizeof(made.what));
    memcpy(made.what.id, comm->id.internal, sizeof(made.what.id));
    made.what.kind = kind;
    made.what.type = type;
    made.what.op = op;
    made.what.root = root;
    made.what.count = count;
    made.send = static_cast<const unsigned char *>(send);
    made.recv = static_cast<unsigned char *>(recv);
    return made;
}

ncclResult_t call(ncclComm_t comm, task_kind kind, const void *send, void *recv, size_t count,
                  int type, int op, int root, cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> locked(lock);
    const task made = task_of(comm, kind, send, recv, count, type, op, root);

    for (const void *memory : {send, const_cast<const void *>(recv)}) {
        if (memory != nullptr && !rp_host_is_device(memory, bytes_of(made.what))) {
            rp_host_die("NCCL gets a pointer that is not this GPU's");
        }
    }
    if (stream == nullptr || root < 0 || root >= comm->nranks) {
        return ncclInvalidArgument;
    }
    rp_host_do_all(stream); /* what is sent is made */
    if (is_in_group) {
        group.push_back(made);
        group_comm = comm;
        return ncclInProgress;
    }
    return issue(comm, {made});
}

} // namespace

ncclResult_t ncclGetVersion(int *version)
{
    *version = 22809;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    return result == ncclSystemError ? "unhandled system error" : "internal error";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return "a fault of the stand-in";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    static int n_made;

    memset(id, 0, sizeof(*id));
    snprintf(id->internal, sizeof(id->internal), "%ld %d", (long)getpid(), n_made++);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int nranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    const std::lock_guard<std::recursive_mutex> locked(lock);
    ncclComm *const made = new ncclComm();

    if (config->blocking != 0) {
        rp_host_die("a communicator that blocks");
    }
    made->rank = rank;
    made->nranks = nranks;
    made->id = id;
    made->n_polls = LAUNCH_POLLS;
    const std::string kind = fault_of(made);
    made->is_stuck = kind == "wait" || kind == "start";
    made->error = kind == "start" ? ncclSystemError : ncclSuccess;
    task start = task_of(made, START, nullptr, nullptr, 0, ncclUint8, 0, 0);
    if (!made->is_stuck) {
        begin_task(made, &start);
    }
    made->tasks.push_back(start);
    all_comms.push_back(made);
    rp_host_set_busy(is_busy);
    *comm = made;
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state)
{
    const std::lock_guard<std::recursive_mutex> locked(lock);
    bool is_starting;

    if (comm->is_dead) {
        rp_host_die("a poll of a communicator that is gone");
    }
    progress(comm);
    is_starting = !comm->tasks.empty() && comm->tasks[0].what.kind == START;
    *state = ncclSuccess;
    if (comm->n_polls > 0) {
        comm->n_polls--;
        *state = ncclInProgress;
    } else if (comm->error != ncclSuccess) {
        *state = comm->error;
    } else if (is_starting) {
        *state = ncclInProgress;
    }
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    const std::lock_guard<std::recursive_mutex> locked(lock);

    comm->n_polls = LAUNCH_POLLS;
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    const std::lock_guard<std::recursive_mutex> locked(lock);

    if (comm->is_dead || !comm->tasks.empty() || comm->n_polls > 0) {
        rp_host_die("a communicator is destroyed that has work or was not finalised");
    }
    comm->is_dead = true;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    const std::lock_guard<std::recursive_mutex> locked(lock);

    if (comm->is_dead) {
        rp_host_die("a communicator is aborted that is gone");
    }
    comm->is_dead = true;
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void)
{
    is_in_group = true;
    group.clear();
    group_comm = nullptr;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    const std::lock_guard<std::recursive_mutex> locked(lock);

    is_in_group = false;
    return group_comm == nullptr ? ncclSuccess : issue(group_comm, group);
}

ncclResult_t ncclBroadcast(const void *send, void *recv, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream)
{
    return call(comm, BROADCAST, send, recv, count, type, 0, root, stream);
}

ncclResult_t ncclAllReduce(const void *send, void *recv, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    return call(comm, ALL_REDUCE, send, recv, count, type, op, 0, stream);
}

ncclResult_t ncclReduce(const void *send, void *recv, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream)
{
    return call(comm, REDUCE, send, recv, count, type, op, root, stream);
}

ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    return call(comm, SEND, send, nullptr, count, type, 0, peer, stream);
}

ncclResult_t ncclRecv(void *recv, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    return call(comm, RECV, nullptr, recv, count, type, 0, peer, stream);
}

rp_status rp_nccl_load(void)
{
    return RP_OK;
}

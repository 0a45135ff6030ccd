/* A libnvidia-ml.so.1 without a GPU behind it, for the real nvidia-ml-py to load.
 *
 * Everything it answers comes from a table of two kinds of card and from the file that
 * FAKE_NVML names, which is read again at each call: what a test writes there holds from the next
 * call on. A line is `key = value`, the last of a key counts:
 *
 *   order = 0 2 3              the cards that the driver lists, by number, in the order of their indexes
 *   card1 = h200               what card 1 is; `card* = …` is said of all of them, as below
 *   card1.temperature = 86     one of the quantities of the table
 *   card1.temperature = -3     a negative value is the error that is returned in its place (NOT_SUPPORTED)
 *   card1.name = …, card1.uuid = …
 *   card1.processes = 4242:1048576 77:-1      pid:bytes, -1 where the driver does not tell
 *   card1.nvmlDeviceGetPowerUsage = -4        a function fails on one card
 *   nvmlInit_v2 = -9                          or altogether
 *   hang.nvmlDeviceGetPowerUsage = 1          or does not return while the file says so
 *   xid = 0:79 2:13            events since the beginning, as card:Xid
 *   driver = 590.48.01, cuda = 13010
 *
 * With -DOLD_DRIVER the functions are missing that drivers had before R510.
 * Numbers and layouts are those of NVIDIA's public nvml.h.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INVALID = 2, NOT_SUPPORTED = 3, SMALL = 7, TIMEOUT = 10, UNINITIALIZED = 1, VERSION = 25 };
enum { CARDS = 32 };
#define NONE (-NOT_SUPPORTED)

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

static const struct { const char *name; i64 m10, h200; } QUANTITIES[] = {
    {"temperature", 45, 38},
    {"memory_temperature", NONE, 44},
    {"shutdown", 95, 92}, {"slowdown", 90, 89}, {"mem_max", NONE, 95}, {"gpu_max", NONE, 87},
    {"power_mw", 30000, 120000},
    {"power_enforced_mw", 53000, 700000}, {"power_default_mw", 53000, 700000},
    {"power_min_mw", 53000, 200000}, {"power_max_mw", 53000, 700000},
    {"energy_mj", NONE, 123456789},
    {"fans", 0, 0}, {"fan_percent", NONE, NONE},
    {"gpu_percent", 40, 70}, {"memory_percent", 10, 30}, {"encoder_percent", 0, 0}, {"decoder_percent", 0, 0},
    {"memory_total", 8589934592LL, 150754820096LL}, {"memory_used", 2390753280LL, 33934016512LL},
    {"memory_reserved", 0, 643825664},
    {"clock0", 1032, 1980}, {"clock1", 1032, 1980}, {"clock2", 2600, 3201}, {"clock3", 928, 1545},
    {"max_clock0", 1032, 1980}, {"max_clock1", 1032, 1980}, {"max_clock2", 2600, 3201}, {"max_clock3", 928, 1545},
    {"bus_bits", 128, 6144},
    {"pstate", 0, 0},
    {"throttle", 0, 0}, {"throttle_supported", 0xff, 0x1ff},
    {"violation0_ns", NONE, 5000000000LL}, {"violation2_ns", NONE, 0},
    {"pcie_generation", 3, 5}, {"pcie_width", 16, 16}, {"pcie_generation_max", 3, 5}, {"pcie_width_max", 16, 16},
    {"pcie_sent_kib", 1200, 12000}, {"pcie_received_kib", 3400, 34000}, {"pcie_replays", 0, 2},
    {"ecc0_volatile", NONE, 1}, {"ecc1_volatile", NONE, 0}, {"ecc0_aggregate", NONE, 3}, {"ecc1_aggregate", NONE, 0},
    {"retired0", NONE, NONE}, {"retired1", NONE, NONE}, {"retired_pending", NONE, NONE},
    {"remapped0", NONE, 0}, {"remapped1", NONE, 0}, {"remap_pending", NONE, 0}, {"remap_failed", NONE, 0},
    {"compute_major", 5, 9}, {"compute_minor", 0, 0},
    {"mig", NONE, 0},
    {"event_types", 0x1f, 0x1f},
};

/* ---- the file */

static int said(const char *key, char *value, size_t size) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[4096];
    int found = 0;
    while (file && fgets(line, sizeof line, file)) {
        char *equals = strstr(line, " = ");
        if (!equals) continue;
        *equals = 0;
        if (strcmp(line, key)) continue;
        snprintf(value, size, "%s", equals + 3);
        value[strcspn(value, "\n")] = 0;
        found = 1;
    }
    if (file) fclose(file);
    return found;
}

static int said_of(int card, const char *what, char *value, size_t size) {
    char key[256];
    snprintf(key, sizeof key, "card%d%s%s", card, *what ? "." : "", what);
    if (said(key, value, size)) return 1;
    snprintf(key, sizeof key, "card*%s%s", *what ? "." : "", what);
    return said(key, value, size);
}

static int is_h200(int card) {
    char kind[64];
    return said_of(card, "", kind, sizeof kind) && !strcmp(kind, "h200");
}

static i64 quantity(int card, const char *name) {
    char value[64];
    if (said_of(card, name, value, sizeof value)) return strtoll(value, NULL, 0);
    for (size_t i = 0; i < sizeof QUANTITIES / sizeof *QUANTITIES; i++)
        if (!strcmp(QUANTITIES[i].name, name)) return is_h200(card) ? QUANTITIES[i].h200 : QUANTITIES[i].m10;
    fprintf(stderr, "fakenvml has no quantity %s\n", name);
    abort();
}

static int listed(int *cards) {
    char order[1024] = "0 1 2 3", *rest = order;
    said("order", order, sizeof order);
    int count = 0;
    for (char *word; (word = strsep(&rest, " ")) && count < CARDS;)
        if (*word) cards[count++] = atoi(word);
    return count;
}

/* ---- what each function begins with */

static int started;

static int enter(const char *function) {
    char key[128], value[64];
    snprintf(key, sizeof key, "hang.%s", function);
    while (said(key, value, sizeof value) && atoi(value)) usleep(5000);
    return said(function, value, sizeof value) ? -atoi(value) : 0;
}

static int enter_card(void *device, const char *function) {
    char value[64];
    int code = started ? enter(function) : UNINITIALIZED;
    if (code) return code;
    int card = (int)(size_t)device - 1;
    if (said_of(card, "lost", value, sizeof value) && atoi(value)) return 15;
    return said_of(card, function, value, sizeof value) ? -atoi(value) : 0;
}

#define CARD ((int)(size_t)device - 1)
#define ENTER do { int code = enter(__func__); if (code) return code; if (!started) return UNINITIALIZED; } while (0)
#define ENTER_CARD do { int code = enter_card(device, __func__); if (code) return code; } while (0)
#define GIVE(to, name) do { i64 given = quantity(CARD, name); if (given < 0) return (int)-given; *(to) = (__typeof__(*(to)))given; } while (0)
#define SIMPLE(function, type, name) int function(void *device, type *value) { ENTER_CARD; GIVE(value, name); return 0; }

static int give_text(char *to, u32 size, const char *text) {
    if (strlen(text) >= size) return SMALL;
    strcpy(to, text);
    return 0;
}

/* ---- the library and the driver */

int nvmlInitWithFlags(u32 flags) {
    (void)flags;
    int code = enter("nvmlInit_v2");
    if (!code) started++;
    return code;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { if (!started) return UNINITIALIZED; started--; return 0; }
const char *nvmlErrorString(int code) { static char text[32]; snprintf(text, sizeof text, "error %d", code); return text; }
int nvmlSystemGetDriverVersion(char *to, u32 size) {
    ENTER;
    char text[80] = "535.154.05";
    said("driver", text, sizeof text);
    return give_text(to, size, text);
}
int nvmlSystemGetCudaDriverVersion(int *version) {
    ENTER;
    char text[32] = "12020";
    said("cuda", text, sizeof text);
    *version = atoi(text);
    return 0;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

/* ---- which cards */

int nvmlDeviceGetCount_v2(u32 *count) { ENTER; int cards[CARDS]; *count = (u32)listed(cards); return 0; }
int nvmlDeviceGetHandleByIndex_v2(u32 index, void **device) {
    ENTER;
    int cards[CARDS];
    if ((int)index >= listed(cards)) return INVALID;
    *device = (void *)(size_t)(cards[index] + 1);
    return enter_card(*device, __func__);
}
int nvmlDeviceGetName(void *device, char *to, u32 size) {
    ENTER_CARD;
    char text[96];
    strcpy(text, is_h200(CARD) ? "NVIDIA H200" : "Tesla M10");
    said_of(CARD, "name", text, sizeof text);
    return give_text(to, size, text);
}
int nvmlDeviceGetUUID(void *device, char *to, u32 size) {
    ENTER_CARD;
    char text[96];
    snprintf(text, sizeof text, "GPU-5eed0000-0000-4000-8000-%012d", CARD);
    said_of(CARD, "uuid", text, sizeof text);
    return give_text(to, size, text);
}
struct pci { char legacy[16]; u32 domain, bus, device, id, subsystem; char bus_id[32]; };
int nvmlDeviceGetPciInfo_v3(void *device, struct pci *pci) {
    ENTER_CARD;
    memset(pci, 0, sizeof *pci);
    pci->bus = 6 + (u32)CARD;
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus & 0xff);
    return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    ENTER_CARD; GIVE(major, "compute_major"); GIVE(minor, "compute_minor"); return 0;
}

/* ---- heat, power, memory, load */

int nvmlDeviceGetTemperature(void *device, u32 sensor, u32 *celsius) {
    ENTER_CARD; if (sensor) return INVALID; GIVE(celsius, "temperature"); return 0;
}
int nvmlDeviceGetTemperatureThreshold(void *device, u32 kind, u32 *celsius) {
    static const char *NAMES[] = {"shutdown", "slowdown", "mem_max", "gpu_max"};
    ENTER_CARD; if (kind > 3) return INVALID; GIVE(celsius, NAMES[kind]); return 0;
}
SIMPLE(nvmlDeviceGetPowerUsage, u32, "power_mw")
SIMPLE(nvmlDeviceGetEnforcedPowerLimit, u32, "power_enforced_mw")
SIMPLE(nvmlDeviceGetPowerManagementDefaultLimit, u32, "power_default_mw")
int nvmlDeviceGetPowerManagementLimitConstraints(void *device, u32 *least, u32 *most) {
    ENTER_CARD; GIVE(least, "power_min_mw"); GIVE(most, "power_max_mw"); return 0;
}
SIMPLE(nvmlDeviceGetTotalEnergyConsumption, u64, "energy_mj")
SIMPLE(nvmlDeviceGetFanSpeed, u32, "fan_percent")
struct utilization { u32 gpu, memory; };
int nvmlDeviceGetUtilizationRates(void *device, struct utilization *percent) {
    ENTER_CARD; GIVE(&percent->gpu, "gpu_percent"); GIVE(&percent->memory, "memory_percent"); return 0;
}
int nvmlDeviceGetEncoderUtilization(void *device, u32 *percent, u32 *period_us) {
    ENTER_CARD; *period_us = 167000; GIVE(percent, "encoder_percent"); return 0;
}
int nvmlDeviceGetDecoderUtilization(void *device, u32 *percent, u32 *period_us) {
    ENTER_CARD; *period_us = 167000; GIVE(percent, "decoder_percent"); return 0;
}
struct memory { u64 total, free, used; };
int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory) {
    /* What the driver keeps for itself counts as used here. */
    u64 reserved;
    ENTER_CARD;
    GIVE(&memory->total, "memory_total"); GIVE(&memory->used, "memory_used"); GIVE(&reserved, "memory_reserved");
    memory->used += reserved;
    memory->free = memory->total - memory->used;
    return 0;
}
#ifndef OLD_DRIVER
struct memory_v2 { u32 version; u64 total, reserved, free, used; };
int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory_v2 *memory) {
    ENTER_CARD;
    if (memory->version != (sizeof *memory | 2 << 24)) return VERSION;
    GIVE(&memory->total, "memory_total"); GIVE(&memory->used, "memory_used"); GIVE(&memory->reserved, "memory_reserved");
    memory->free = memory->total - memory->used - memory->reserved;
    return 0;
}
struct temperature { u32 version, sensor; int celsius; };
int nvmlDeviceGetTemperatureV(void *device, struct temperature *temperature) {
    ENTER_CARD;
    if (temperature->version != (sizeof *temperature | 1 << 24)) return VERSION;
    GIVE(&temperature->celsius, "temperature");
    return 0;
}
SIMPLE(nvmlDeviceGetNumFans, u32, "fans")
int nvmlDeviceGetFanSpeed_v2(void *device, u32 fan, u32 *percent) {
    u32 fans;
    ENTER_CARD; GIVE(&fans, "fans"); if (fan >= fans) return INVALID; GIVE(percent, "fan_percent"); return 0;
}
SIMPLE(nvmlDeviceGetCurrentClocksEventReasons, u64, "throttle")
SIMPLE(nvmlDeviceGetSupportedClocksEventReasons, u64, "throttle_supported")
#endif
SIMPLE(nvmlDeviceGetCurrentClocksThrottleReasons, u64, "throttle")
SIMPLE(nvmlDeviceGetSupportedClocksThrottleReasons, u64, "throttle_supported")
static int clock_of(int card, const char *prefix, u32 kind, u32 *mhz) {
    char name[32];
    if (kind > 3) return INVALID;
    snprintf(name, sizeof name, "%s%u", prefix, kind);
    i64 value = quantity(card, name);
    if (value < 0) return (int)-value;
    *mhz = (u32)value;
    return 0;
}
int nvmlDeviceGetClockInfo(void *device, u32 kind, u32 *mhz) { ENTER_CARD; return clock_of(CARD, "clock", kind, mhz); }
int nvmlDeviceGetMaxClockInfo(void *device, u32 kind, u32 *mhz) { ENTER_CARD; return clock_of(CARD, "max_clock", kind, mhz); }
SIMPLE(nvmlDeviceGetPerformanceState, u32, "pstate")
SIMPLE(nvmlDeviceGetMemoryBusWidth, u32, "bus_bits")
struct violation { u64 reference, time; };
int nvmlDeviceGetViolationStatus(void *device, u32 policy, struct violation *violation) {
    ENTER_CARD;
    violation->reference = 0;
    if (policy == 0) GIVE(&violation->time, "violation0_ns");
    else if (policy == 2) GIVE(&violation->time, "violation2_ns");
    else return NOT_SUPPORTED;
    return 0;
}
struct field { u32 id, scope; i64 timestamp, latency; u32 type; int code; u64 value; };
int nvmlDeviceGetFieldValues(void *device, int count, struct field *fields) {
    ENTER_CARD;
    for (int i = 0; i < count; i++) {
        i64 value = fields[i].id == 82 ? quantity(CARD, "memory_temperature") : NONE;
        fields[i].type = 1;
        fields[i].code = value < 0 ? (int)-value : 0;
        fields[i].value = value < 0 ? 0 : (u64)value;
    }
    return 0;
}

/* ---- the bus, errors, partitions */

SIMPLE(nvmlDeviceGetCurrPcieLinkGeneration, u32, "pcie_generation")
SIMPLE(nvmlDeviceGetCurrPcieLinkWidth, u32, "pcie_width")
SIMPLE(nvmlDeviceGetMaxPcieLinkGeneration, u32, "pcie_generation_max")
SIMPLE(nvmlDeviceGetMaxPcieLinkWidth, u32, "pcie_width_max")
SIMPLE(nvmlDeviceGetPcieReplayCounter, u32, "pcie_replays")
int nvmlDeviceGetPcieThroughput(void *device, u32 counter, u32 *kib) {
    ENTER_CARD; if (counter) GIVE(kib, "pcie_received_kib"); else GIVE(kib, "pcie_sent_kib"); return 0;
}
int nvmlDeviceGetTotalEccErrors(void *device, u32 type, u32 scope, u64 *count) {
    static const char *NAMES[2][2] = {{"ecc0_volatile", "ecc1_volatile"}, {"ecc0_aggregate", "ecc1_aggregate"}};
    ENTER_CARD; if (type > 1 || scope > 1) return INVALID; GIVE(count, NAMES[scope][type]); return 0;
}
int nvmlDeviceGetRetiredPages(void *device, u32 cause, u32 *count, u64 *addresses) {
    u32 there;
    ENTER_CARD;
    if (cause) GIVE(&there, "retired1"); else GIVE(&there, "retired0");
    if (addresses && *count < there) return SMALL;
    for (u32 i = 0; addresses && i < there; i++) addresses[i] = 4096ULL * i;
    *count = there;
    return addresses || !there ? 0 : SMALL;
}
SIMPLE(nvmlDeviceGetRetiredPagesPendingStatus, u32, "retired_pending")
int nvmlDeviceGetRemappedRows(void *device, u32 *corrected, u32 *uncorrected, u32 *pending, u32 *failed) {
    ENTER_CARD;
    GIVE(corrected, "remapped0"); GIVE(uncorrected, "remapped1"); GIVE(pending, "remap_pending"); GIVE(failed, "remap_failed");
    return 0;
}
int nvmlDeviceGetMigMode(void *device, u32 *current, u32 *pending) { ENTER_CARD; GIVE(current, "mig"); *pending = *current; return 0; }

/* ---- processes */

struct process { u32 pid; u64 bytes; u32 gpu_instance, compute_instance; };
#ifdef OLD_DRIVER
#define nvmlDeviceGetComputeRunningProcesses_v3 nvmlDeviceGetComputeRunningProcesses_v2
#endif
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, u32 *count, struct process *processes) {
    char text[1024] = "", *rest = text;
    struct process there[64];
    u32 found = 0;
    ENTER_CARD;
    said_of(CARD, "processes", text, sizeof text);
    for (char *word; (word = strsep(&rest, " ")) && found < 64;) {
        i64 bytes;
        u32 pid;
        if (sscanf(word, "%u:%lld", &pid, &bytes) == 2)
            there[found++] = (struct process){pid, (u64)bytes, UINT_MAX, UINT_MAX};
    }
    if (*count < found) { *count = found; return SMALL; }
    *count = found;
    if (processes) memcpy(processes, there, found * sizeof *there);
    return 0;
}

/* ---- events: a set remembers how many of the file's it has told, and for which cards */

struct set { int told; unsigned char registered[CARDS]; };
struct event { void *device; u64 type, data; u32 gpu_instance, compute_instance; };
int nvmlDeviceGetSupportedEventTypes(void *device, u64 *types) { ENTER_CARD; GIVE(types, "event_types"); return 0; }
int nvmlEventSetCreate(struct set **set) { ENTER; *set = calloc(1, sizeof **set); return *set ? 0 : 20; }
int nvmlEventSetFree(struct set *set) { free(set); return 0; }
int nvmlDeviceRegisterEvents(void *device, u64 types, struct set *set) {
    (void)types;
    ENTER_CARD;
    set->registered[CARD] = 1;
    return 0;
}
int nvmlEventSetWait_v2(struct set *set, struct event *event, u32 milliseconds) {
    ENTER;
    for (u32 waited = 0;; waited += 5) {
        char text[4096] = "", *rest = text;
        int number = 0, card;
        u64 xid;
        said("xid", text, sizeof text);
        for (char *word; (word = strsep(&rest, " "));) {
            if (sscanf(word, "%d:%llu", &card, &xid) != 2 || number++ < set->told) continue;
            set->told = number;
            if (!set->registered[card]) continue;
            *event = (struct event){(void *)(size_t)(card + 1), 8, xid, UINT_MAX, UINT_MAX};
            return 0;
        }
        if (waited >= milliseconds) return TIMEOUT;
        usleep(5000);
    }
}

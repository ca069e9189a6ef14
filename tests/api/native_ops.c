/* Operators and a delegate in C, against the layout of TensorFlow Lite's C interface. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int size; int data[]; } IntArray;
typedef struct { int size; float data[]; } FloatArray;
typedef struct { float scale; int32_t zero_point; } Params;
typedef struct { FloatArray *scale; IntArray *zero_point; int32_t axis; } Affine;
typedef struct {
  int type; void *data; IntArray *dims; Params params; int allocation_type; size_t bytes;
  const void *allocation; const char *name; void *delegate; int buffer_handle;
  bool data_is_stale, is_variable; struct { int type; void *params; } quantization;
  void *sparsity; const IntArray *dims_signature;
} Tensor;
typedef struct {
  IntArray *inputs, *outputs, *intermediates, *temporaries; void *user_data, *builtin_data;
  const void *custom_initial_data; int custom_initial_data_size; void *delegate;
  bool might_have_side_effect;
} Node;
typedef struct Context Context;
struct Context {
  size_t tensors_size; int (*GetExecutionPlan)(Context *, IntArray **); Tensor *tensors;
  void *impl; int (*ResizeTensor)(Context *, Tensor *, IntArray *);
  void (*ReportError)(Context *, const char *, ...); int (*AddTensors)(Context *, int, int *);
  void *GetNodeAndRegistration;
  int (*ReplaceNodeSubsets)(Context *, void *, const IntArray *, void *);
  int recommended_num_threads; void *(*GetExternalContext)(Context *, int);
  void (*SetExternalContext)(Context *, int, void *); bool allow_fp16; void *micro[6];
  void *PreviewDelegatePartitioning, *GetTensor, *GetEvalTensor, *GetModelMetadata;
  void *AcquireSubgraphContext, *ReleaseSubgraphContext;
};
typedef struct {
  void *(*init)(Context *, const char *, size_t); void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *); int (*invoke)(Context *, Node *);
  const char *(*profiling_string)(Context *, Node *); int32_t builtin_code;
  const char *custom_name; int version; void *rest[3];
} Registration;

void struct_sizes(int *sizes) {
  sizes[0] = sizeof(Tensor); sizes[1] = sizeof(Node); sizes[2] = sizeof(Context);
}

static Tensor *input(Context *c, Node *n, int k) { return &c->tensors[n->inputs->data[k]]; }
static Tensor *output(Context *c, Node *n, int k) { return &c->tensors[n->outputs->data[k]]; }
static int count(const Tensor *t) {
  int n = 1;
  for (int k = 0; k < t->dims->size; ++k) n *= t->dims->data[k];
  return n;
}
static IntArray *copied(const IntArray *from) {
  size_t bytes = sizeof(int) * (1 + from->size);
  return memcpy(malloc(bytes), from, bytes);
}
static IntArray *one(int size) {
  IntArray *a = malloc(2 * sizeof(int));
  a->size = 1; a->data[0] = size;
  return a;
}

/* y = options[0] * x */
static int live;
int live_states(void) { return live; }
static void *scale_init(Context *c, const char *options, size_t length) {
  int *factor = malloc(sizeof(int));
  *factor = length ? options[0] : 1;
  __atomic_add_fetch(&live, 1, __ATOMIC_SEQ_CST);
  return factor;
}
static void scale_free(Context *c, void *state) {
  free(state);
  __atomic_sub_fetch(&live, 1, __ATOMIC_SEQ_CST);
}
static int scale_prepare(Context *c, Node *n) {
  return c->ResizeTensor(c, output(c, n, 0), copied(input(c, n, 0)->dims));
}
static int scale_invoke(Context *c, Node *n) {
  const float *x = input(c, n, 0)->data;
  float *y = output(c, n, 0)->data;
  int size = count(input(c, n, 0)), factor = *(int *)n->user_data;
  for (int k = 0; k < size; ++k) y[k] = factor * x[k];
  return 0;
}
Registration *Register_SCALE(void) {
  static Registration r = {scale_init, scale_free, scale_prepare, scale_invoke};
  return &r;
}
Registration *Register_NAMED(void) {
  static Registration r = {scale_init, scale_free, scale_prepare, scale_invoke};
  r.custom_name = "NamedInC";
  return &r;
}

/* y = x where no element is negative */
static int picky_prepare(Context *c, Node *n) {
  if (n->custom_initial_data_size) return 0;
  c->ReportError(c, "no options");
  return 1;
}
static int picky_invoke(Context *c, Node *n) {
  const float *x = input(c, n, 0)->data;
  int size = count(input(c, n, 0));
  for (int k = 0; k < size; ++k) {
    if (x[k] < 0) {
      c->ReportError(c, "element %d is %.2f, of %zu in %s: refused", k, (double)x[k],
                     (size_t)size, input(c, n, 0)->name);
      return 1;
    }
  }
  memcpy(output(c, n, 0)->data, x, input(c, n, 0)->bytes);
  return 0;
}
Registration *Register_PICKY(void) {
  static Registration r = {NULL, NULL, picky_prepare, picky_invoke};
  return &r;
}

/* the positive elements */
static int positive_prepare(Context *c, Node *n) {
  Tensor *y = output(c, n, 0);
  y->allocation_type = 4;
  y->data = NULL;
  return 0;
}
static int positive_invoke(Context *c, Node *n) {
  const float *x = input(c, n, 0)->data;
  int size = count(input(c, n, 0)), found = 0;
  for (int k = 0; k < size; ++k) found += x[k] > 0;
  if (c->ResizeTensor(c, output(c, n, 0), one(found))) return 1;
  float *y = output(c, n, 0)->data;
  for (int k = 0; k < size; ++k) if (x[k] > 0) *y++ = x[k];
  return 0;
}
Registration *Register_POSITIVE(void) {
  static Registration r = {NULL, NULL, positive_prepare, positive_invoke};
  return &r;
}

/* two dequantized elements by way of a temporary, whether input 1 is left out, a name */
static void *look_init(Context *c, const char *options, size_t length) {
  int *first = malloc(sizeof(int));
  return c->AddTensors(c, 1, first) ? NULL : first;
}
static void look_free(Context *c, void *state) { free(state); }
static int look_prepare(Context *c, Node *n) {
  int at = *(int *)n->user_data;
  free(n->temporaries);
  n->temporaries = one(at);
  Tensor *t = &c->tensors[at];
  t->type = 1;
  t->allocation_type = 2;
  return c->ResizeTensor(c, t, one(2)) || c->ResizeTensor(c, output(c, n, 0), one(4));
}
static int look_invoke(Context *c, Node *n) {
  const Tensor *x = input(c, n, 0);
  const Affine *q = x->quantization.params;
  float *t = c->tensors[n->temporaries->data[0]].data, *y = output(c, n, 0)->data;
  for (int k = 0; k < 2; ++k)
    t[k] = q->scale->data[k] * (((int8_t *)x->data)[k] - q->zero_point->data[k]);
  memcpy(y, t, 8);
  y[2] = n->inputs->data[1] == -1;
  y[3] = x->name[0];
  return 0;
}
Registration *Register_LOOK(void) {
  static Registration r = {look_init, look_free, look_prepare, look_invoke};
  return &r;
}

Registration *Register_NOTHING(void) { return NULL; }
Registration *Register_EMPTY(void) {
  static Registration r;
  return &r;
}

/* a delegate that looks at the plan, or wants to take its first operator */
typedef struct Delegate Delegate;
struct Delegate {
  void *data; int (*Prepare)(Context *, Delegate *); void *copies[3]; int64_t flags; void *builder;
};
static int delegates, prepared;
int delegates_live(void) { return delegates; }
int delegate_prepared(void) { return prepared; }
static int delegate_prepare(Context *c, Delegate *d) {
  IntArray *plan;
  ++prepared;
  if (c->GetExecutionPlan(c, &plan) || plan->size < 1) return 1;
  return d->flags ? c->ReplaceNodeSubsets(c, NULL, plan, d) : 0;
}
Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t n,
                                        void (*report)(const char *)) {
  int64_t takes = 0;
  for (size_t k = 0; k < n; ++k) {
    if (strcmp(values[k], "look") && strcmp(values[k], "take")) {
      char text[40];
      snprintf(text, sizeof text, "no mode %s", values[k]);
      report(text);
      return NULL;
    }
    takes = !strcmp(values[k], "take");
  }
  Delegate *d = calloc(1, sizeof *d);
  d->Prepare = delegate_prepare;
  d->flags = takes;
  ++delegates;
  return d;
}
void tflite_plugin_destroy_delegate(Delegate *d) {
  free(d);
  --delegates;
}

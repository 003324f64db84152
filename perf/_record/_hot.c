/* Opening and closing a span, compiled: the same as hot.py, which explains it.

   Everything that is not needed for every span (tasks, errors, misuse, long lists) is a
   call of a Python method. All state is guarded by the GIL; no pointer is kept across a
   call that could release what it points to. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    PyObject *current, *now, *records;
} Log;

typedef struct {
    PyObject_HEAD
    PyObject *log, *tracer;
    PyObject *after, *begin_ns, *devices, *end_ns, *id, *kind, *name, *parent, *tags, *work;
} Span;

typedef struct {
    PyObject_HEAD
    PyObject *local, *on, *span_type;
} Tracer;

static PyTypeObject LogType, SpanType, TracerType;

/* Set once, by bind(). */
static PyObject *open_ns, *plain_kind, *get_running_loop;
static Py_ssize_t relief_at = PY_SSIZE_T_MAX;

static PyObject *zero, *str_log;
static PyObject *str_close, *str_collector, *str_enter_task, *str_ids, *str_launches,
    *str_leave, *str_mark_error, *str_misused, *str_new_log, *str_refuse_tags, *str_relieve;

static unsigned long long last_id;

static PyObject *
new_id(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(nothing))
{
    return PyLong_FromUnsignedLongLong(++last_id);
}

#define RETURN_IF_NULL(result) \
    do { \
        if ((result) == NULL) \
            return NULL; \
    } while (0)

/* Calls a method whose result does not matter; -1 if it raised. */
static int
tell(PyObject *self, PyObject *method, PyObject *first, PyObject *second)
{
    PyObject *result = PyObject_CallMethodObjArgs(self, method, first, second, NULL);
    if (result == NULL)
        return -1;
    Py_DECREF(result);
    return 0;
}

/* Likewise of something that it has. */
static int
tell_part(PyObject *self, PyObject *part_name, PyObject *method, PyObject *argument)
{
    PyObject *part = PyObject_GetAttr(self, part_name);
    if (part == NULL)
        return -1;
    int failed = tell(part, method, argument, NULL);
    Py_DECREF(part);
    return failed;
}

/* -- Log ----------------------------------------------------------------------------- */

static int
Log_traverse(Log *self, visitproc visit, void *arg)
{
    Py_VISIT(self->current);
    Py_VISIT(self->now);
    Py_VISIT(self->records);
    return 0;
}

static int
Log_clear(Log *self)
{
    Py_CLEAR(self->current);
    Py_CLEAR(self->now);
    Py_CLEAR(self->records);
    return 0;
}

static void
Log_dealloc(Log *self)
{
    PyObject_GC_UnTrack(self);
    Log_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef Log_members[] = {
    {"current", T_OBJECT_EX, offsetof(Log, current), 0, NULL},
    {"now", T_OBJECT_EX, offsetof(Log, now), 0, NULL},
    {"records", T_OBJECT_EX, offsetof(Log, records), 0, NULL},
    {NULL},
};

static PyTypeObject LogType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "perf._record._hot.HotLog",
    .tp_basicsize = sizeof(Log),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)Log_dealloc,
    .tp_traverse = (traverseproc)Log_traverse,
    .tp_clear = (inquiry)Log_clear,
    .tp_members = Log_members,
};

/* -- Span ---------------------------------------------------------------------------- */

static void
Span_fill(Span *self, PyObject *tracer, PyObject *name, PyObject *kind, PyObject *tags,
          PyObject *after, PyObject *devices)
{
    Py_XSETREF(self->tracer, Py_NewRef(tracer));
    Py_XSETREF(self->name, Py_NewRef(name));
    Py_XSETREF(self->kind, Py_NewRef(kind));
    Py_XSETREF(self->tags, Py_NewRef(tags));
    Py_XSETREF(self->after, Py_NewRef(after));
    Py_XSETREF(self->devices, Py_NewRef(devices));
    Py_XSETREF(self->work, Py_NewRef(Py_None));
    Py_XSETREF(self->id, Py_NewRef(zero));
}

static int
Span_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tracer", "name", "kind", "tags", "after", "devices", NULL};
    PyObject *tracer, *name, *kind, *tags, *after, *devices;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OOOOO", names, &TracerType, &tracer,
                                     &name, &kind, &tags, &after, &devices))
        return -1;
    Span_fill((Span *)op, tracer, name, kind, tags, after, devices);
    return 0;
}

/* The log of the calling thread, a new reference. */
static Log *
own_log(Span *self)
{
    if (self->tracer == NULL || ((Tracer *)self->tracer)->local == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a span that no tracer made");
        return NULL;
    }
    PyObject *log = PyObject_GetAttr(((Tracer *)self->tracer)->local, str_log);
    if (log == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        log = PyObject_CallMethodNoArgs(self->tracer, str_new_log);
    }
    if (log != NULL && (!PyObject_TypeCheck(log, &LogType) || ((Log *)log)->now == NULL
                        || ((Log *)log)->current == NULL)) {
        Py_DECREF(log);
        PyErr_SetString(PyExc_TypeError, "not a thread's log");
        return NULL;
    }
    return (Log *)log;
}

static PyObject *
Span_enter(Span *self, PyObject *Py_UNUSED(nothing))
{
    if (self->end_ns == open_ns) {
        if (tell((PyObject *)self, str_misused, NULL, NULL) < 0)
            return NULL;
        return Py_NewRef(self);
    }
    if (self->tracer != NULL && ((Tracer *)self->tracer)->on != Py_True) {
        Py_XSETREF(self->begin_ns, Py_NewRef(zero));
        Py_XSETREF(self->end_ns, Py_NewRef(zero));
        return Py_NewRef(self);
    }
    Log *log = own_log(self);
    RETURN_IF_NULL(log);
    Py_XSETREF(self->log, (PyObject *)log);
    PyObject *id = new_id(NULL, NULL);
    RETURN_IF_NULL(id);
    Py_XSETREF(self->id, id);
    PyObject *loop = PyObject_CallNoArgs(get_running_loop);
    RETURN_IF_NULL(loop);
    Py_DECREF(loop);
    if (loop != Py_None) {
        if (tell((PyObject *)self, str_enter_task, (PyObject *)log, NULL) < 0)
            return NULL;
        return Py_NewRef(self);
    }
    Py_XSETREF(self->parent, Py_NewRef(log->current));
    Py_XSETREF(self->end_ns, Py_NewRef(open_ns));
    PyObject *begin_ns = PyObject_CallNoArgs(log->now);
    RETURN_IF_NULL(begin_ns);
    Py_XSETREF(self->begin_ns, begin_ns);
    Py_XSETREF(log->current, Py_NewRef(self));
    return Py_NewRef(self);
}

/* Adds what has closed to its log. */
static int
Span_record(Span *self, Log *log)
{
    PyObject *parent_id = zero;
    if (self->parent != NULL && PyObject_TypeCheck(self->parent, &SpanType)
        && ((Span *)self->parent)->id != NULL)
        parent_id = ((Span *)self->parent)->id;
    PyObject *fields[] = {self->name, self->begin_ns, self->end_ns, self->id,
                          parent_id,  self->kind,     self->tags,   self->after};
    PyObject *records = log->records;
    if (records == NULL || !PyList_Check(records)) {
        PyErr_SetString(PyExc_TypeError, "a log without a list");
        return -1;
    }
    PyObject *record = PyTuple_New(8);
    if (record == NULL)
        return -1;
    for (Py_ssize_t i = 0; i < 8; i++)
        PyTuple_SET_ITEM(record, i, Py_NewRef(fields[i] ? fields[i] : Py_None));
    /* Of atoms alone, which the garbage collector would find out at its first pass. */
    if (self->tags == Py_None && self->after == Py_None && self->name
        && PyUnicode_CheckExact(self->name))
        PyObject_GC_UnTrack(record);
    int failed = PyList_Append(records, record);
    Py_DECREF(record);
    if (failed || PyList_GET_SIZE(records) < relief_at)
        return failed;
    return tell_part(self->tracer, str_collector, str_relieve, (PyObject *)log);
}

static PyObject *
Span_exit(Span *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "__exit__ takes 3 arguments");
        return NULL;
    }
    if (self->end_ns == zero) /* entered while recording was off */
        Py_RETURN_NONE;
    if (self->end_ns == NULL || self->log == NULL || self->parent == NULL) {
        if (tell((PyObject *)self, str_misused, NULL, NULL) < 0)
            return NULL;
        Py_RETURN_NONE;
    }
    Log *log = (Log *)Py_NewRef(self->log);
    PyObject *end_ns = log->now ? PyObject_CallNoArgs(log->now) : Py_NewRef(zero);
    if (end_ns == NULL)
        goto failed;
    if (log->current == (PyObject *)self) {
        Py_SETREF(log->current, Py_NewRef(self->parent));
    }
    else {
        PyObject *left = PyObject_CallMethodOneArg((PyObject *)self, str_leave,
                                                   (PyObject *)log);
        if (left == NULL) {
            Py_DECREF(end_ns);
            goto failed;
        }
        Py_DECREF(left);
        if (left != Py_True) {
            Py_DECREF(end_ns);
            goto done;
        }
    }
    Py_XSETREF(self->end_ns, end_ns);
    if (args[1] != Py_None
        && tell((PyObject *)self, str_mark_error, args[0], args[1]) < 0)
        goto failed;
    if (Span_record(self, log) < 0)
        goto failed;
    if (self->devices != Py_None
        && tell_part(self->tracer, str_launches, str_close, (PyObject *)self) < 0)
        goto failed;
done:
    Py_DECREF(log);
    Py_RETURN_NONE;
failed:
    Py_DECREF(log);
    return NULL;
}

static int
Span_traverse(Span *self, visitproc visit, void *arg)
{
    Py_VISIT(self->log);
    Py_VISIT(self->tracer);
    Py_VISIT(self->after);
    Py_VISIT(self->begin_ns);
    Py_VISIT(self->devices);
    Py_VISIT(self->end_ns);
    Py_VISIT(self->id);
    Py_VISIT(self->kind);
    Py_VISIT(self->name);
    Py_VISIT(self->parent);
    Py_VISIT(self->tags);
    Py_VISIT(self->work);
    return 0;
}

static int
Span_clear(Span *self)
{
    Py_CLEAR(self->log);
    Py_CLEAR(self->tracer);
    Py_CLEAR(self->after);
    Py_CLEAR(self->begin_ns);
    Py_CLEAR(self->devices);
    Py_CLEAR(self->end_ns);
    Py_CLEAR(self->id);
    Py_CLEAR(self->kind);
    Py_CLEAR(self->name);
    Py_CLEAR(self->parent);
    Py_CLEAR(self->tags);
    Py_CLEAR(self->work);
    return 0;
}

static void
Span_dealloc(Span *self)
{
    PyObject_GC_UnTrack(self);
    Span_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef Span_members[] = {
    {"_log", T_OBJECT_EX, offsetof(Span, log), READONLY, NULL},
    {"_tracer", T_OBJECT_EX, offsetof(Span, tracer), READONLY, NULL},
    {"after", T_OBJECT_EX, offsetof(Span, after), 0, NULL},
    {"begin_ns", T_OBJECT_EX, offsetof(Span, begin_ns), 0, NULL},
    {"devices", T_OBJECT_EX, offsetof(Span, devices), READONLY, NULL},
    {"end_ns", T_OBJECT_EX, offsetof(Span, end_ns), 0, NULL},
    {"id", T_OBJECT_EX, offsetof(Span, id), 0, NULL},
    {"kind", T_OBJECT_EX, offsetof(Span, kind), 0, NULL},
    {"name", T_OBJECT_EX, offsetof(Span, name), 0, NULL},
    {"parent", T_OBJECT_EX, offsetof(Span, parent), 0, NULL},
    {"tags", T_OBJECT_EX, offsetof(Span, tags), 0, NULL},
    {"work", T_OBJECT_EX, offsetof(Span, work), 0, NULL},
    {NULL},
};

static PyMethodDef Span_methods[] = {
    {"__enter__", (PyCFunction)Span_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))Span_exit, METH_FASTCALL, NULL},
    {NULL},
};

static PyTypeObject SpanType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "perf._record._hot.HotSpan",
    .tp_basicsize = sizeof(Span),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = Span_init,
    .tp_dealloc = (destructor)Span_dealloc,
    .tp_traverse = (traverseproc)Span_traverse,
    .tp_clear = (inquiry)Span_clear,
    .tp_members = Span_members,
    .tp_methods = Span_methods,
};

/* -- Tracer -------------------------------------------------------------------------- */

/* A dict of our own of somebody's tags; None if they are no mapping, which is said. */
static PyObject *
copied(PyObject *tracer, PyObject *tags)
{
    if (tags == Py_None)
        return Py_NewRef(tags);
    PyObject *copy;
    if (PyDict_CheckExact(tags)) {
        copy = PyDict_Copy(tags);
    }
    else {
        copy = PyDict_New();
        if (copy != NULL && PyDict_Update(copy, tags) < 0)
            Py_CLEAR(copy);
    }
    if (copy != NULL)
        return copy;
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return NULL;
    PyErr_Clear();
    return tell(tracer, str_refuse_tags, tags, NULL) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
Tracer_span(Tracer *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"name", "devices", "tags", "after"};
    PyObject *given[4] = {NULL, Py_None, Py_None, Py_None};
    if (count > 4) {
        PyErr_Format(PyExc_TypeError, "span() takes at most 4 arguments (%zd given)",
                     count);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        given[i] = args[i];
    Py_ssize_t named = keywords == NULL ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t k = 0; k < named; k++) {
        PyObject *keyword = PyTuple_GET_ITEM(keywords, k);
        Py_ssize_t i = 0;
        while (i < 4 && PyUnicode_CompareWithASCIIString(keyword, names[i]) != 0)
            i++;
        if (i == 4 || i < count) {
            PyErr_Format(PyExc_TypeError,
                         i == 4 ? "span() got an unexpected keyword argument '%U'"
                                : "span() got multiple values for argument '%U'",
                         keyword);
            return NULL;
        }
        given[i] = args[count + k];
    }
    if (given[0] == NULL) {
        PyErr_SetString(PyExc_TypeError, "span() missing the argument 'name'");
        return NULL;
    }
    PyTypeObject *type = (PyTypeObject *)self->span_type;
    if (type == NULL || !PyType_Check(type) || !PyType_IsSubtype(type, &SpanType)) {
        PyErr_SetString(PyExc_TypeError, "the tracer has no type of spans");
        return NULL;
    }
    PyObject *tags = copied((PyObject *)self, given[2]);
    RETURN_IF_NULL(tags);
    PyObject *after = Py_NewRef(Py_None);
    if (given[3] != Py_None)
        Py_SETREF(after, PyObject_CallMethodOneArg((PyObject *)self, str_ids, given[3]));
    Span *span = after == NULL ? NULL : (Span *)type->tp_alloc(type, 0);
    if (span != NULL)
        Span_fill(span, (PyObject *)self, given[0], plain_kind, tags, after, given[1]);
    Py_DECREF(tags);
    Py_XDECREF(after);
    return (PyObject *)span;
}

PyDoc_STRVAR(Tracer_span_doc,
"span($self, /, name, devices=None, tags=None, after=None)\n\
--\n\
\n\
A span around a block (`with`, `async with`) or a function (decorator).\n\
\n\
Args:\n\
    name: what happens in it, e.g. \"rollout\". Few distinct ones: put what\n\
        varies into tags.\n\
    devices: where the work that it launches runs, in any form that JAX users\n\
        call devices; the span is recorded there too, until the arrays given\n\
        to its `device_end` are ready.\n\
    tags: kept with the span, copied.\n\
    after: spans, or ids of spans, whose results this one consumes.");

static int
Tracer_traverse(Tracer *self, visitproc visit, void *arg)
{
    Py_VISIT(self->local);
    Py_VISIT(self->on);
    Py_VISIT(self->span_type);
    return 0;
}

static int
Tracer_clear(Tracer *self)
{
    Py_CLEAR(self->local);
    Py_CLEAR(self->on);
    Py_CLEAR(self->span_type);
    return 0;
}

static void
Tracer_dealloc(Tracer *self)
{
    PyObject_GC_UnTrack(self);
    Tracer_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef Tracer_members[] = {
    {"_local", T_OBJECT_EX, offsetof(Tracer, local), 0, NULL},
    {"_on", T_OBJECT_EX, offsetof(Tracer, on), 0, NULL},
    {"_span_type", T_OBJECT_EX, offsetof(Tracer, span_type), 0, NULL},
    {NULL},
};

static PyMethodDef Tracer_methods[] = {
    {"span", (PyCFunction)(void (*)(void))Tracer_span, METH_FASTCALL | METH_KEYWORDS,
     Tracer_span_doc},
    {NULL},
};

static PyTypeObject TracerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "perf._record._hot.HotTracer",
    .tp_basicsize = sizeof(Tracer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)Tracer_dealloc,
    .tp_traverse = (traverseproc)Tracer_traverse,
    .tp_clear = (inquiry)Tracer_clear,
    .tp_members = Tracer_members,
    .tp_methods = Tracer_methods,
};

/* -- the module ---------------------------------------------------------------------- */

static PyObject *
bind(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *open, *kind, *running_loop;
    Py_ssize_t relief;
    if (!PyArg_ParseTuple(args, "OOOn", &open, &kind, &running_loop, &relief))
        return NULL;
    Py_XSETREF(open_ns, Py_NewRef(open));
    Py_XSETREF(plain_kind, Py_NewRef(kind));
    Py_XSETREF(get_running_loop, Py_NewRef(running_loop));
    relief_at = relief;
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"bind", bind, METH_VARARGS, "Takes the constants that hot.py owns."},
    {"new_id", new_id, METH_NOARGS, "The next span id."},
    {NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "perf._record._hot",
    .m_doc = "Opening and closing a span, compiled; see hot.py.",
    .m_size = -1,
    .m_methods = module_methods,
};

static int
intern(void)
{
    const struct {
        PyObject **place;
        const char *text;
    } names[] = {
        {&str_close, "close"},
        {&str_log, "log"},
        {&str_collector, "_collector"},
        {&str_enter_task, "_enter_task"},
        {&str_ids, "_ids"},
        {&str_launches, "_launches"},
        {&str_leave, "_leave"},
        {&str_mark_error, "_mark_error"},
        {&str_misused, "_misused"},
        {&str_new_log, "_new_log"},
        {&str_refuse_tags, "_refuse_tags"},
        {&str_relieve, "relieve"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if ((*names[i].place = PyUnicode_InternFromString(names[i].text)) == NULL)
            return -1;
    return (zero = PyLong_FromLong(0)) == NULL ? -1 : 0;
}

PyMODINIT_FUNC
PyInit__hot(void)
{
    if (intern() < 0)
        return NULL;
    PyObject *module = PyModule_Create(&module_definition);
    RETURN_IF_NULL(module);
    if (PyModule_AddType(module, &LogType) < 0 || PyModule_AddType(module, &SpanType) < 0
        || PyModule_AddType(module, &TracerType) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}

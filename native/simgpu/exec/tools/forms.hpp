// exec-run --list-forms: every form of the PTX manual that the lowering accepts, one JSON object a line.
#pragma once

namespace aliquot::simgpu::exec {
int list_forms();
}

"""Variants that every configuration has, so that no configuration copies them.

A row of the table of experiments names one in its column `variant`. A configuration's own `variants` may give
another meaning to a name. `tests/test_variants.py` holds that each changes what it names and nothing else.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "sweeps_1": {"pretrain": {"sweeps": 1}},
    "sweeps_5": {"pretrain": {"sweeps": 5}},
    "merged_sweeps": {"pretrain": {"merge_sweeps": True}},
    "sweeps_1_prompts_semantickitti": {"pretrain": {"sweeps": 1, "prompts": "semantickitti"}},
    "sweeps_1_prompts_cityscapes": {"pretrain": {"sweeps": 1, "prompts": "cityscapes"}},
    "sweeps_1_prompts_all": {"pretrain": {"sweeps": 1, "prompts": "all"}},
    "teacher_at_crop_size": {"teacher": {"judged_at": "crop"}},
}
"""Table 3's prompts and sweeps of CLIP2Scene, whose baseline has one sweep; and the teacher, judged at the
resolution that its student learned from. Each is merged over the configuration, key by key."""

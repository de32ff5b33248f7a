"""How errors come out."""

import pytest
import torch

from vfnet.errors import UserError
from vfnet.processes import report_errors


def test_an_error_is_one_line_and_exit_status_1(capsys):
    with pytest.raises(SystemExit) as caught, report_errors():
        raise UserError("expected this, got that")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: expected this, got that\n"


def test_a_data_loader_workers_traceback_is_left_out(capsys):
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise UserError(f"picture {index} is broken")

    loader = torch.utils.data.DataLoader(Broken(), num_workers=1, multiprocessing_context="fork")
    with pytest.raises(SystemExit), report_errors():
        list(loader)
    assert capsys.readouterr().err == "error: picture 0 is broken\n"

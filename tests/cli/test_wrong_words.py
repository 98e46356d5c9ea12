"""Wrong words are one sentence and status 2, and nothing is left behind; those in vain are said."""

import pytest
from lines import noderun

WRONG = {
    "trian": ["no task 'trian'", "did you mean 'train'?"],
    "train solver=dopri": ["no solver 'dopri'", "did you mean 'dopri5'?"],
    "train model=odenett": ["no model 'odenett'", "did you mean 'odenet'?"],
    "train model=ODENet": ["no model 'ODENet'; did you mean 'odenet'?"],
    "train solver=DOPRI5": ["did you mean 'dopri5'?"],
    "train experiment=Table1": ["did you mean 'chen2018/table1'?"],
    "train tol=1e-3": ["did you mean 'tolerance'?"],
    "train method=rk4": ["did you mean 'solver'?"],
    "train batch_size=3": ["did you mean 'data.batch_size'?"],
    "train optimizer.learning_rate=0.1": ["did you mean 'optimizer.lr'?"],
    "train optimizer.foo=0.1": ["no setting 'optimizer.foo'; optimizer has", "lr", "weight_decay"],
    "train tolerance=inf": ["tolerance must be a finite number, not inf"],
    "train experiment=chen2018/mnst": ["no experiment 'chen2018/mnst'", "did you mean 'chen2018/mnist'?"],
    "train solvr=dopri5": ["no setting 'solvr'", "did you mean 'solver'?"],
    "train +solvr=dopri5": ["no setting 'solvr'", "did you mean 'solver'?"],
    "train ++solver.rtoll=1e-3": ["no setting 'solver.rtoll'", "did you mean 'solver.rtol'?"],
    "train solver.rtoll=1e-3": ["no setting 'solver.rtoll'", "did you mean 'solver.rtol'?"],
    "train +solver.options.rtol=1e-3": ["no setting 'solver.options.rtol'", "did you mean 'solver.rtol'?"],
    "train trainer.epochs.most=3": ["no setting 'trainer.epochs.most'"],
    "train epochs=3": ["did you mean 'trainer.epochs'?"],
    "train model.blocks=3": ["no setting 'model.blocks' with this model", "model=ffjord, hamiltonian, linear_cde and"],
    "train solver=radau5 solver.compile=true": ["no setting 'solver.compile' with this solver", "others have it"],
    "train ~solver.rtoll": ["solver.rtoll"],
    "train +model=resnet": ["already exists", "leave the + out"],
    "train solver=null": ["no solver 'null'"],
    "train trainer=5": ["no trainer '5'", "default"],
    "train odenet": ["cannot read 'odenet'", "key=value"],
    "train model=[": ["cannot read 'model=['"],
    "train problem=kepler": ["train takes no problem", "did you mean `noderun integrate problem=kepler`?"],
    "integrate model=resnet": ["integrate takes no model", "did you mean `noderun train model=resnet`?"],
    "sweep problem=kepler,lorenz": ["sweep takes no problem", "`noderun integrate problem=kepler`"],
    "train model.objective=densty": ["model.objective must be one of classify, regress, sign, density", "not 'densty'"],
    "train trainer.epochs=abc": ["trainer.epochs must be a whole number from 1, not 'abc'"],
    "train trainer.epochs=1.5": ["trainer.epochs must be a whole number"],
    "train trainer.epochs=0": ["trainer.epochs must be a whole number from 1, not 0"],
    "train data.batch_size=0": ["data.batch_size must be a whole number from 1"],
    "train data.augment=maybe": ["data.augment must be true or false"],
    "train tolerance=-1e-3": ["tolerance must be", "not -0.001"],
    "train tolerance=1e-9": ["float32"],
    "train tolerance=nan": ["tolerance must be"],
    "train gradient.rtol=1e-12": ["gradient.rtol must be", "float32"],
    "train tolerance=${foo}": ["tolerance", "foo"],
    "train seed=-1": ["seed must be"],
    "train log=lively": ["log must be one of live, plain, quiet", "did you mean 'live'?"],
    "train device=gpu": ["device must be auto, cpu, cuda"],
    "train name=a/b": ["name must be"],
    "train model.stem=cnov": ["model.stem must be one of", "did you mean 'conv'?"],
    "train optimizer=sgd optimizer.momentum=1": ["optimizer.momentum must be"],
    "train optimizer.betas=0.9": ["optimizer.betas must be a list"],
    "train model.uses=[]": ["model.uses", "choose another model"],
    "train solver.name=euler": ["solver.name", "choose another solver"],
    "train solver=euler,rk4": ["several values", "noderun sweep"],
    "train --cfg job tolerance=1,2": ["give tolerance one value"],
    "train --cgf job": ["no flag '--cgf'", "did you mean '--cfg'?"],
    "train --config-dir nowhere": ["no folder", "nowhere"],
    "train device=cuda:99": ["cuda", "device=cpu"],
    "train solver=rk4 solver.dt=null": ["solver=rk4 takes fixed steps only", "solver.dt=0.1"],
    "train solver=rk4 solver.rtol=1e-3": ["solver.rtol was given", "have no tolerance"],
    "train gradient=backprop gradient.rtol=1e-3": ["gradient.rtol was given", "forward solve's own steps"],
    "train model=rknet solver=dopri5": ["model=rknet takes fixed steps only"],
    "train model=plain data=moons": ["model=plain takes image data", "data=moons is vector"],
    "train model=neural_pde data.viscosity=1e-4": ["data.viscosity=0.0001", "data.points=160", "5000 points"],
    "train model=neural_pde data.unroll=60": ["data.unroll=60", "at most data.steps=50"],
    "train model=neural_pde data.points=8": ["data.points must be a whole number from 16"],
    "train model=neural_pde data.dt=0": ["data.dt must be a number above 0"],
    "sweep tolerance=1e-1,-1": ["tolerance must be", "not -1"],
    "sweep solver=rk4,dopri": ["no solver 'dopri'"],
    "sweep trainer.epochs=1,2": ["trainer.epochs cannot have several values"],
    "sweep device=cpu,cuda": ["device cannot have several values"],
    "sweep model=rknet solver=dopri5,tsit5": ["model=rknet takes fixed steps only"],
    "train -m solver=rk4 seed=0,1 solver.rtol=1e-3": ["have no tolerance"],
    "compare model=odenet,resnet model.blokcs=3": ["no setting 'model.blokcs'"],
    "list solvr": ["no group 'solvr'", "did you mean 'solver'?"],
    "list solver=dopri": ["no solver 'dopri'"],
    "data check mnsit": ["did you mean 'mnist'?"],
    "runs epochs": ["expected key=value"],
    "train --resolve": ["--resolve says how --cfg shows", "--cfg job"],
    "train --package data": ["--package says how --cfg shows", "--cfg job"],
    "train --cfg job --info all": ["--cfg and --info each show something"],
    "train --help --hydra-help": ["each show something"],
    "train --cfg x": ["--cfg shows job, hydra or all, not 'x'"],
    "train --info=x": ["--info shows all, config,", "not 'x'"],
    "train --help=x": ["--help takes no word, not 'x'"],
    "train --cfg job -p solvr": ["--cfg job has no 'solvr'", "did you mean 'solver'?"],
    "train --cfg hydra -p solver": ["--cfg hydra has no 'solver'"],
    "train --model odenet": ["no flag '--model'", "a setting has no dashes: model=odenet"],
    "train --seed=3": ["a setting has no dashes: seed=3"],
    "train --verbose": ["no flag '--verbose': log=live, plain or quiet says what a run prints"],
    "-v": ["a task comes first, not '-v': --help shows the tasks, --version the version"],
    "train optimizer.lr=interval(0.1,1)": ["several values"],
    "sweep optimizer.lr=interval(0.1,1)": ["optimizer.lr=interval(0.1,1) has values without end"],
    "sweep model=glob(nothing*)": ["nothing to run"],
    "sweep seed=range(3,3)": ["nothing to run"],
    "sweep seed=range(1,9,0)": ["must not be zero"],
    "train hydra.sweep.subdir=choice(a,b)": ["hydra.sweep.subdir is not to be set here", "hydra.run.dir"],
    "sweep hydra.sweep.dir=a,b": ["hydra.sweep.dir cannot have several values"],
    "train hydra.launcher._target_=os.system": ["hydra.launcher._target_ is not to be set here"],
    "train ~hydra.verbose": ["hydra.verbose cannot be taken away"],
    "train hydra.foo=1": ["hydra.foo is not to be set here"],
    "train hydra.launcher.foo=1": ["no setting 'hydra.launcher.foo'"],
    "train hydra/launcher=bsic": ["no hydra/launcher 'bsic'", "did you mean 'basic'?"],
    "train hydra/launcher=null": ["no hydra/launcher 'null'"],
    "sweep seed=0,1 hydra/launcher=submitit_slurm hydra.launcher.partion=gpu": [
        "did you mean 'hydra.launcher.partition'?"
    ],
    "sweep seed=0,1 hydra/launcher=submitit_slurm hydra.launcher.timeout_min=soon": [
        "hydra.launcher.timeout_min",
        "'soon'",
    ],
    "sweep seed=0,1 hydra/launcher=joblib hydra.launcher.n_jobs=all": ["hydra.launcher.n_jobs", "'all'"],
    "sweep hydra/sweeper=optuna": ["hydra/sweeper is not to be set here"],
    "evaluate run=x hydra.mode=RUN": ["hydra.mode is not to be set here"],
    "integrate hydra.run.dir=/proc/x": ["/proc is not a folder that can be written to", "hydra.run.dir=FOLDER"],
    "train hydra.run.dir=${foo}": ["hydra.run.dir", "foo"],
    "train ~solver": ["solver cannot be taken away"],
    "train ~optimizer.lr": ["optimizer.lr cannot be taken away"],
    "train solver=../model/resnet": ["no solver '../model/resnet'"],
    "train =dopri5": ["cannot read '=dopri5'"],
    "train trainer.precision=float16": ["one of float32, tf32, bf16, not 'float16'\n"],
    "train data=mnist data.root=/nowhere data.download=false": ["in /nowhere/MNIST/raw", "noderun data fetch mnist"],
    "train data=cifar10 data.root=/nowhere data.download=false": ["in /nowhere", "noderun data fetch cifar10"],
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_words_are_one_sentence_and_leave_nothing(line, here, capsys):
    assert noderun(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1 and err.startswith("noderun: ")
    for words in WRONG[line]:
        assert words in err
    assert not list(here.iterdir())


def test_an_absent_data_folder_is_one_sentence(here, capsys):
    assert noderun("data check mnist data.root=nowhere") == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and "nowhere" in err and "noderun data fetch mnist" in err


def test_outputs_that_cannot_be_written(here, capsys):
    (here / "outputs").write_text("a file stands in the way")
    assert noderun("train model=stem") == 2
    assert "outputs is not a folder that can be written to" in capsys.readouterr().err


def test_words_that_are_given_twice_or_in_vain_are_said(here, trained, capsys):
    (here / "empty").mkdir()
    assert noderun("train seed=0 seed=1 model=stem solver=rk4 --config-dir empty log=quiet") == 0
    assert trained[-1].seed == 1
    told = capsys.readouterr().err
    assert "solver changes nothing: model=stem has no solver" in told
    assert "seed is given more than once: seed=1 counts" in told
    assert "--config-dir changes nothing" in told and "holds no option" in told
